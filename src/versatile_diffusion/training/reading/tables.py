"""Tables: which of their columns hold files, and which hold captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from versatile_diffusion.training.reading.sample import Part, Row, file_modality, words_modality

if TYPE_CHECKING:
    from datasets import IterableDataset  # pyright: ignore[reportMissingTypeStubs] - datasets has no types

CAPTIONS = ("text", "texts", "caption", "captions", "txt", "prompt", "description", "sentences", "alt_text", "title")
"""Names of columns that hold captions, in any case; of several that are there, the first one counts."""
_FEATURES = {"audio": "sound"}
"""What `datasets` calls a kind of files that we call otherwise."""


def rows_of_table(table: IterableDataset, folder: Path | None) -> IterableDataset:
    """Returns the rows of a table, each under the name "row".

    Args:
        table: as `datasets` streams it.
        folder: where files lie that it names; None if it holds them.
    """
    features: Mapping[str, Any] = cast("Mapping[str, Any] | None", table.features) or {}
    kinds = {name: type(feature).__name__.lower() for name, feature in features.items()}
    known = {name: _FEATURES.get(kind, kind) for name, kind in kinds.items() if kind in ("image", "audio", "video")}
    for name in known:
        table = table.cast_column(name, type(features[name])(decode=False))
    read = partial(_row, folder=folder, known=known)
    columns = list(features) or None
    return cast(Any, table).map(read, with_indices=True, remove_columns=columns)


def caption_parts(record: Mapping[str, object]) -> Iterator[Part]:
    """Yields the captions of a record: the words in the first column that is called like one."""
    columns = {name.lower(): value for name, value in record.items()}
    found = next((columns[name] for name in CAPTIONS if columns.get(name) is not None), None)
    values: Sequence[object] = found if isinstance(found, list | tuple) else [] if found is None else [found]
    yield from (Part(words_modality(), each) for each in values if isinstance(each, str))


def _row(record: Mapping[str, object], index: int, folder: Path | None, known: Mapping[str, str]) -> dict[str, Row]:
    parts, name, facts = [*caption_parts(record)], f"{index}", dict[str, object]()
    for column, value in record.items():
        if isinstance(value, Mapping):
            parts += _held(cast("Mapping[str, object]", value), known.get(column), folder)
        elif isinstance(value, str) and column.lower() not in CAPTIONS:
            modality = file_modality(value)
            if modality is not None and modality != words_modality():
                parts.append(Part(modality, (folder or Path()) / value))
                name = value
        elif isinstance(value, int | float | bool):
            facts[column] = value
    return {"row": Row(name, parts, facts)}


def _held(value: Mapping[str, object], modality: str | None, folder: Path | None) -> Iterator[Part]:
    """A file that a column holds as `datasets` stores it: its bytes, or else its path."""
    content, path = value.get("bytes"), value.get("path")
    kind = modality or (file_modality(path) if isinstance(path, str) else None)
    if kind is None:
        return
    if isinstance(content, bytes):
        yield Part(kind, content)
    elif isinstance(path, str):
        yield Part(kind, (folder or Path()) / path)
