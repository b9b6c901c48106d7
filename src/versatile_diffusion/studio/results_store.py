"""What jobs gave, kept as entries of the history."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import cast

from versatile_diffusion._moved import former_names
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.provenance.record import CHUNK
from versatile_diffusion.serving.schemas import OutputOut
from versatile_diffusion.studio.controls import MaskedImage, NamedFile, Values
from versatile_diffusion.studio.history import History, HistoryEntry, NewResult
from versatile_diffusion.studio.options import title
from versatile_diffusion.studio.tasks import StudioTask

log = logging.getLogger(__name__)

__getattr__ = former_names(__name__, {"Keeper": f"{__name__}:ResultsStore"})


class ResultsStore:
    """Keeps results, if need be only as long as the studio runs.

    Args:
        history: where they belong.
        spare: where they go if they cannot be written there.
    """

    def __init__(self, history: History, spare: History) -> None:
        self.history = history
        self.spare = spare

    def keep(
        self, task: StudioTask, values: Values, output: OutputOut, inputs: Mapping[str, bytes]
    ) -> tuple[HistoryEntry, OSError | None]:
        """Keeps an output.

        Args:
            task: the task that it was made by.
            values: what was filled in, with the seed that was used.
            output: what was made.
            inputs: what its record refers to, by the names of their files.

        Returns:
            Its entry, and why it could not be written into the history, if it could not.

        Raises:
            OSError: if it could be written nowhere.
        """
        form, more = stored_form(values)
        content, codec = _content(output), modality_spec(task.to).codec
        new = NewResult(
            task=task.key,
            title=title(task, values),
            seed=output.seed,
            modality=task.to,
            suffix=codec.suffix,
            content=content,
            record=_record(output, content, codec.read_record),
            form=form,
            inputs={**inputs, **more},
        )
        try:
            return self.history.add(new), None
        except OSError as error:
            log.warning("A result could not be written into the history", exc_info=error)
            return self.spare.add(new), error

    def values_of(self, entry: HistoryEntry) -> dict[str, object]:
        """Returns what was filled in for a result. Raises OSError if a file is gone."""
        home = self.spare if self.spare.folder in entry.file.parents else self.history
        return {name: _restored(value, home) for name, value in entry.form.items()}


def stored_form(values: Values) -> tuple[dict[str, object], dict[str, bytes]]:
    """Returns values as JSON with references to inputs, and these inputs by the names of their files."""
    inputs: dict[str, bytes] = {}

    def named(content: bytes, suffix: str = ".png") -> str:
        name = f"{sha256(content).hexdigest()}{suffix}"
        inputs[name] = content
        return name

    def stored(value: object) -> object:
        match value:
            case bytes():
                return {"input": named(value)}
            case MaskedImage(image, mask):
                return {"input": named(image), "mask": None if mask is None else named(mask)}
            case NamedFile(name, content):
                return {"input": named(content, Path(name).suffix.lower()), "name": name}
            case _:
                return value

    return {key: stored(value) for key, value in values.items()}, inputs


def _content(output: OutputOut) -> bytes | str:
    """A text, or the content of a file."""
    encoded = output.image or output.data
    return (output.text or "") if encoded is None else base64.b64decode(encoded)


def _record(
    output: OutputOut, content: bytes | str, read_record: Callable[[bytes], dict[str, str]]
) -> dict[str, object]:
    """How an output was made, as `vd replay` reads it from a file of its own."""
    if isinstance(content, str):
        return {"text": content, CHUNK: output.request}
    return {CHUNK: output.request if output.request is not None else json.loads(read_record(content)[CHUNK])}


def _restored(value: object, home: History) -> object:
    """The value that a reference stands for."""
    if not isinstance(value, dict):
        return value
    reference = cast("Mapping[str, str | None]", value)  # as `stored_form` wrote it
    content = home.input(str(reference["input"])).read_bytes()
    if "name" in reference:
        return NamedFile(str(reference["name"]), content)
    if "mask" in reference:
        mask = reference["mask"]
        return MaskedImage(content, None if mask is None else home.input(mask).read_bytes())
    return content
