"""What a job gave, as entries of the history."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from versatile_diffusion.provenance.record import CHUNK
from versatile_diffusion.serving.schemas import OutputOut
from versatile_diffusion.studio.controls import NamedFile, Painting, Values
from versatile_diffusion.studio.history import Entry, History, New
from versatile_diffusion.studio.options import title
from versatile_diffusion.studio.tasks import Task

log = logging.getLogger(__name__)


class Keeper:
    """Keeps results, if need be only as long as the studio runs.

    Args:
        history: where they belong.
        spare: where they go if they cannot be written there.
    """

    def __init__(self, history: History, spare: History) -> None:
        self.history = history
        self.spare = spare

    def keep(
        self, task: Task, values: Values, output: OutputOut, inputs: Mapping[str, bytes]
    ) -> tuple[Entry, OSError | None]:
        """Keeps an output.

        Args:
            task: that it was made by.
            values: that were filled in, the seed among them.
            output: that was made.
            inputs: that its recipe refers to, by the names of their files.

        Returns:
            Its entry, and why it could not be written into the history, if it could not.

        Raises:
            OSError: if it could be written nowhere.
        """
        form, more = referred(values)
        content = output.text or "" if output.image is None else base64.b64decode(output.image)
        new = New(
            task.key, title(task, values), output.seed, content, _recipe(output, content), form, {**inputs, **more}
        )
        try:
            return self.history.add(new), None
        except OSError as error:
            log.warning("A result could not be written into the history", exc_info=error)
            return self.spare.add(new), error

    def values(self, entry: Entry) -> Values:
        """What was filled in for a result. Raises OSError if a file is gone."""
        home = self.spare if self.spare.folder in entry.file.parents else self.history
        return {name: _value(value, home) for name, value in entry.form.items()}


def referred(values: Values) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Values as JSON, with references to inputs, and these by the names of their files."""
    inputs: dict[str, bytes] = {}

    def name(content: bytes, suffix: str = ".png") -> str:
        found = f"{sha256(content).hexdigest()}{suffix}"
        inputs[found] = content
        return found

    def one(value: Any) -> Any:
        match value:
            case bytes():
                return {"input": name(value)}
            case Painting(picture, mask):
                return {"input": name(picture), "mask": None if mask is None else name(mask)}
            case NamedFile(called, content):
                return {"input": name(content, Path(called).suffix.lower()), "name": called}
            case _:
                return value

    return {key: one(value) for key, value in values.items()}, inputs


def _recipe(output: OutputOut, content: bytes | str) -> dict[str, Any]:
    """What `vd replay` reads."""
    if isinstance(content, str):
        return {"text": content, CHUNK: output.request}
    with Image.open(BytesIO(content)) as picture:
        return {CHUNK: json.loads(picture.info[CHUNK])}


def _value(value: Any, home: History) -> Any:
    """The value that a reference stands for."""
    if not isinstance(value, dict):
        return value
    content = home.input(value["input"]).read_bytes()
    if "name" in value:
        return NamedFile(value["name"], content)
    if "mask" in value:
        return Painting(content, None if value["mask"] is None else home.input(value["mask"]).read_bytes())
    return content
