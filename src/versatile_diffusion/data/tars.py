"""Tars of webdataset: files that belong together follow each other, and have the same name up to the first dot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from os import SEEK_END
from pathlib import Path

from pydantic import TypeAdapter

from versatile_diffusion.data.sample import Row, SamplePart, captions_of, file_modality, words_modality
from versatile_diffusion.data.streams import tar_entries
from versatile_diffusion.data.tables import caption_parts

_FACTS = "json"
_BLOCK = 512
"""Bytes of which a tar has a whole number; the last ones are zeros."""


def tar_rows(tars: Sequence[str]) -> Iterator[Row]:
    """Yields the rows of tars. What is damaged of a tar is left out, and told in a row of its own."""
    for tar in tars:
        problems: list[str] = []

        def note(error: Exception, problems: list[str] = problems) -> bool:
            problems.append(f"{type(error).__name__}: {error}")
            return True

        for entry in tar_entries(tar, note):
            yield _row(f"{Path(tar).name}/{entry['__key__']}", entry)
        if not problems and _is_cut_short(Path(tar)):
            problems.append("It does not end as a tar does.")
        for problem in problems:
            yield Row(tar, problem=f"The tar is damaged, and what follows in it is lost ({problem:.200}).")


def _is_cut_short(tar: Path) -> bool:
    """Tells whether a tar, unless it is compressed, lacks its end: readers take a cut between two files for one."""
    with tar.open("rb") as file:
        if b"ustar" not in file.read(_BLOCK):
            return False
        file.seek(-_BLOCK, SEEK_END)
        return any(file.read())


def _row(key: str, entry: Mapping[str, object]) -> Row:
    parts: list[SamplePart] = []
    facts: dict[str, object] = {}
    for suffix, content in entry.items():
        if suffix.startswith("__") or not isinstance(content, bytes):
            continue
        modality = file_modality(f"{key}.{suffix}")
        try:
            if suffix == _FACTS:
                facts = TypeAdapter(dict[str, object]).validate_python(json.loads(content))
            elif modality == words_modality():
                parts += captions_of(content.decode("utf-8-sig"))
            elif modality is not None:
                parts.append(SamplePart(modality, content))
        except ValueError as error:
            return Row(key, problem=f"Its .{suffix} cannot be read: {error}.")
    if not any(part.modality == words_modality() for part in parts):
        parts += caption_parts(facts)
    return Row(key, parts, facts)
