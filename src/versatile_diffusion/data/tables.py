"""Tables: which of their columns hold files, and which hold captions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from versatile_diffusion.data.sample import Row, SamplePart, file_modality, words_modality
from versatile_diffusion.data.streams import UNREADABLE, RowStream, lines, parquet, table
from versatile_diffusion.modalities.registry import modality_names

CAPTIONS = ("text", "texts", "caption", "captions", "txt", "prompt", "description", "sentences", "alt_text", "title")
"""Names of columns that hold captions, in any case; of several that are there, the first one counts."""

LINES = "lines"
"""The reader of tables of JSON, one record a line."""
_LINE = "text"
_FACT = 100
"""Letters of what a column may say of a sample; longer ones are texts."""


def rows_of_table(records: Any, folder: Path | None) -> RowStream:
    """Returns the rows of a table, each under the name "row".

    Args:
        records: of the table, as `datasets` streams it.
        folder: where files lie that it names; None if it holds them. Its shards may then come in any order, so that
            rows are not called by their numbers, but by what is in them.
    """
    records, known = _undecoded(records)
    read = partial(_entry, folder=folder, known=known)
    stream: RowStream = records.map(read, with_indices=True, remove_columns=list(records.features or {}) or None)
    return stream


def rows_of_lines(lines: Any, folder: Path) -> RowStream:
    """Returns the rows of a table of JSON, one record a line. What is no record is told in its row.

    Args:
        lines: see `streams.lines`.
        folder: where files lie that it names.
    """
    read = partial(_line_entry, folder=folder)
    stream: RowStream = lines.map(read, with_indices=True, remove_columns=[_LINE])
    return stream


def parquet_rows(files: Sequence[str]) -> Iterator[Row]:
    """Yields the rows of parquet files. What is damaged of a file is left out, and told in a row of its own."""
    for file in map(Path, files):
        try:
            records, known = _undecoded(parquet(file))
            for index, record in enumerate(records):
                yield _row(record, f"{file.name}/{index}", file.parent, known)
        except (OSError, ValueError, RuntimeError) as error:
            yield Row(f"{file}", problem=f"The file is damaged, and what follows in it is lost ({error!s:.200}).")


def nested_rows(folder: str, tables: Sequence[str], readers: Sequence[str]) -> Iterator[Row]:
    """Yields the rows of tables that lie beside their files in folders below one; names are relative to that one.

    Args:
        folder: that holds all.
        tables: their paths, relative to it.
        readers: of each: `LINES`, or one of `table`.
    """
    for place, reader in zip(tables, readers, strict=True):
        for row in _rows(Path(folder, place), reader):
            yield replace(row, key=str(Path(place).parent / row.key))


def _rows(file: Path, reader: str) -> Iterator[Row]:
    if reader == LINES:
        yield from (_row_of_line(line[_LINE], index, file.parent) for index, line in enumerate(lines(file)))
        return
    records, known = _undecoded(table(reader, [file]))
    yield from (_row(record, f"{index}", file.parent, known) for index, record in enumerate(records))


def captions_hint() -> str:
    """Returns where captions are looked for, for people whose data seems to have none."""
    return f"Captions are read from a .txt beside a file, or from a column called {', '.join(CAPTIONS)}."


def caption_parts(record: Mapping[str, object]) -> Iterator[SamplePart]:
    """Yields the captions of a record: the words in the first column that is called like one."""
    columns = {name.lower(): value for name, value in record.items()}
    found = next((columns[name] for name in CAPTIONS if columns.get(name) is not None), None)
    values = cast("Sequence[object]", found) if isinstance(found, list | tuple) else [found]  # of anything
    yield from (SamplePart(words_modality(), each) for each in values if isinstance(each, str))


def _undecoded(records: Any) -> tuple[Any, Mapping[str, str]]:
    """A table whose files are given as they are stored, and the modalities of the columns that hold them."""
    features: Mapping[str, Any] = records.features or {}
    kinds = {name: type(each).__name__.lower() for name, each in features.items()}
    known = {name: kind for name, kind in kinds.items() if kind in modality_names()}
    for name in known:
        records = records.cast_column(name, type(features[name])(decode=False))
    return records, known


def _line_entry(line: Mapping[str, str], index: int, folder: Path) -> dict[str, Row]:
    return {"row": _row_of_line(line[_LINE], index, folder)}


def _row_of_line(line: str, index: int, folder: Path) -> Row:
    if UNREADABLE in line:
        return Row(f"{index}", problem=f"Record {index + 1} is not a text in UTF-8: {line:.80}")
    try:
        found: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Row(f"{index}", problem=f"Record {index + 1} is not JSON ({error!s:.100}): {line:.80}")
    if not isinstance(found, dict):
        return Row(f"{index}", problem=f"Record {index + 1} is not an object with names and values: {line:.80}")
    return _row(cast("dict[str, object]", found), f"{index}", folder, {})


def _entry(record: Mapping[str, object], index: int, folder: Path | None, known: Mapping[str, str]) -> dict[str, Row]:
    row = _row(record, f"{index}", folder, known)
    return {"row": row if folder is not None else replace(row, key=_checksum(row))}


def _checksum(row: Row) -> str:
    digest = sha256()
    for part in row.parts:
        digest.update(part.content if isinstance(part.content, bytes) else str(part.content).encode(errors="replace"))
    return digest.hexdigest()[:16]


def _row(record: Mapping[str, object], name: str, folder: Path | None, known: Mapping[str, str]) -> Row:
    parts, facts = [*caption_parts(record)], dict[str, object]()
    for column, value in record.items():
        if isinstance(value, Mapping):
            parts += _held(cast("Mapping[str, object]", value), known.get(column), folder)
        elif isinstance(value, str) and column.lower() not in CAPTIONS:
            modality = file_modality(value)
            if modality is not None and modality != words_modality():
                parts.append(SamplePart(modality, (folder or Path()) / value))
                name = value
            elif len(value) < _FACT:
                facts[column] = value
        elif isinstance(value, int | float | bool):
            facts[column] = value
    return Row(name, parts, facts)


def _held(value: Mapping[str, object], modality: str | None, folder: Path | None) -> Iterator[SamplePart]:
    """A file that a column holds as `datasets` stores it: its bytes, or else its path."""
    content, path = value.get("bytes"), value.get("path")
    kind = modality or (file_modality(path) if isinstance(path, str) else None)
    if kind is None:
        return
    if isinstance(content, bytes):
        yield SamplePart(kind, content)
    elif isinstance(path, str):
        yield SamplePart(kind, (folder or Path()) / path)
