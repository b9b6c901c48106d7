# pyright: strict
"""A record together with its inputs, as JSON holds them and folders keep them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from pydantic import ValidationError
from torch import Tensor

from versatile_diffusion._moved import former_names
from versatile_diffusion.provenance.inputs import FOLDER, file_name, find, named, restored, stored
from versatile_diffusion.provenance.record import Record

MOST_EMBEDDED = 2**20
"""Bytes of values. Inputs up to this lie in the record itself; larger ones in files, or with those who gave them."""

LONGEST = 8 * 2**20
"""Characters of the JSON of a record."""

_ALWAYS = {"format", "num_inference_steps"}  # format 1 leaves out what is as by default, but for these


class NoRecord(ValueError):
    """There is no record that can be used; the message is for the user."""


@dataclass(frozen=True)
class StoredRecord:
    """A record with the inputs that are at hand, by their checksums."""

    record: Record
    inputs: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    @property
    def is_whole(self) -> bool:
        """Whether the record holds its inputs where it is written down."""
        return sum(value.nbytes for value in self.inputs.values()) <= MOST_EMBEDDED

    @property
    def missing(self) -> list[str]:
        """Inputs that are not at hand, in words."""
        return [str(one) for sha256, one in self.record.inputs.items() if sha256 not in self.inputs]

    def require_inputs(self) -> None:
        """Raises NoRecord unless all inputs are at hand."""
        if self.missing:
            advice = "Give the files that they were read from with --input"
            raise NoRecord(f"Inputs are missing: {'; '.join(self.missing)}. {advice}.")

    @property
    def json(self) -> str:
        """The record on one line, with its inputs if they are small."""
        return self.written(self.embedded)

    @property
    def embedded(self) -> dict[str, str]:
        """The inputs in base64 if they are small, else none."""
        if not self.is_whole:
            return {}
        return {sha256: base64.b64encode(stored(value)).decode() for sha256, value in self.inputs.items()}

    def written(self, embedded: Mapping[str, str]) -> str:
        """Returns the record on one line, with inputs that were encoded before."""
        entries = self.record.model_dump(mode="json", exclude_defaults=True)
        entries |= self.record.model_dump(mode="json", include=_ALWAYS)
        return json.dumps(entries | ({"inputs": dict(embedded)} if embedded else {}))

    def files(self) -> dict[str, bytes]:
        """Returns the files that belong beside it by their names in its folder; none if the inputs are small."""
        if self.is_whole:
            return {}
        return {f"{FOLDER}/{file_name(value)}": stored(value) for value in self.inputs.values()}

    def with_inputs(self, values: Iterable[Tensor]) -> StoredRecord:
        """Returns the same with more inputs at hand, as far as the record asks for them."""
        found = {named(value).sha256: value for value in values}
        return StoredRecord(
            self.record, {**self.inputs, **{key: found[key] for key in self.record.inputs if key in found}}
        )

    def from_folder(self, folder: Path) -> StoredRecord:
        """Returns the same with the inputs that lie in a folder of inputs."""
        found = (find(folder, sha256) for sha256 in self.record.inputs if sha256 not in self.inputs)
        return self.with_inputs(value for value in found if value is not None)


def parse_record(text: str) -> StoredRecord:
    """Returns a record from its JSON.

    Raises:
        NoRecord: if it is none, or its inputs are damaged.
    """
    if len(text) > LONGEST:
        raise NoRecord(f"The recipe is longer than {LONGEST} characters: it was not written here.")
    try:
        given: object = json.loads(text)
        entries = cast("dict[str, object]", given) if isinstance(given, dict) else {}  # keys of JSON are strings
        version, embedded = entries.get("format"), entries.pop("inputs", {})
        if version != 1:
            raise NoRecord(f"The recipe is of format {version!r:.20}, and this version reads format 1: update it.")
        record = Record.model_validate_json(json.dumps(entries))
        return StoredRecord(record).with_inputs(_read_inputs(record, embedded))
    except NoRecord:
        raise
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        deepest = max(found, key=lambda one: len(one["loc"]))
        where = ".".join(map(str, deepest["loc"])) or "it"
        message = deepest["msg"].removeprefix("Value error, ").removesuffix(".")
        raise NoRecord(f"The recipe cannot be used: {where}: {message}.") from error
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise NoRecord(f"The recipe cannot be used: {error}") from error


def _read_inputs(record: Record, embedded: object) -> list[Tensor]:
    """The inputs of a record among those that were written down with it, in base64 by their checksums."""
    if not isinstance(embedded, dict):
        raise NoRecord("The recipe cannot be used: its inputs are no object.")
    texts = cast("dict[str, str]", embedded)  # `b64decode` refuses what is no text
    return [restored(base64.b64decode(texts[key], validate=True)) for key in record.inputs if key in texts]


__getattr__ = former_names(
    __name__,
    {
        "Kept": "versatile_diffusion.provenance.stored_record:StoredRecord",
        "NoRecipe": "versatile_diffusion.provenance.stored_record:NoRecord",
        "parsed": "versatile_diffusion.provenance.stored_record:parse_record",
        "read": "versatile_diffusion.provenance.output_files:read_outputs",
    },
)
