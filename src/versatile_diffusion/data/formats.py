"""Which format a data set has, and its rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from tarfile import TarError
from typing import ClassVar

from versatile_diffusion.data.coco import captions_file, coco_images, coco_rows
from versatile_diffusion.data.estimates import lines_of, rows_of_parquet, samples_in_tars
from versatile_diffusion.data.folder import files_below, folder_rows, named_files, row_of_files
from versatile_diffusion.data.sample import Row
from versatile_diffusion.data.streams import RowStream, generated, hub_rows, hub_table, lines, table
from versatile_diffusion.data.tables import LINES, nested_rows, parquet_rows, rows_of_lines, rows_of_table
from versatile_diffusion.data.tars import tar_rows

HUB = "hub:"
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""Tables beside the files that they describe, in the order in which they are looked for."""
_READERS = {".jsonl": LINES, ".ndjson": LINES, ".csv": "csv", ".parquet": "parquet"}
"""The reader of a table, by the suffix of its file."""


class DataFormat(ABC):
    """A way in which data sets are kept.

    Attributes:
        about: what it is, for people.
    """

    about: ClassVar[str]

    @abstractmethod
    def recognises(self, source: str) -> bool:
        """Tells whether a data set is kept in this way, without reading it."""

    @abstractmethod
    def rows(self, source: str) -> RowStream:
        """Returns the rows, each under the name "row", as `datasets` streams them: from shards, with its state."""

    @abstractmethod
    def estimate(self, source: str, rows: RowStream) -> int | None:
        """Returns about how many samples there are, told quickly; None where nothing tells.

        Args:
            source: the data set.
            rows: its rows, which are not read.
        """


class HubFormat(DataFormat):
    """A data set of the hub."""

    about = "a data set of the hub (hub:owner/name)"

    def recognises(self, source: str) -> bool:
        """See `DataFormat.recognises`."""
        return source.startswith(HUB)

    def rows(self, source: str) -> RowStream:
        """See `DataFormat.rows`. It is streamed, so that training begins before all of it is here."""
        return rows_of_table(hub_table(source.removeprefix(HUB)), None)

    def estimate(self, source: str, rows: RowStream) -> int | None:
        """See `DataFormat.estimate`: what the hub says, if it does."""
        return hub_rows(source.removeprefix(HUB))


class CocoFormat(DataFormat):
    """Captions as COCO writes them."""

    about = "captions as COCO writes them (one .json of images and annotations, or the folder with annotations/)"

    def recognises(self, source: str) -> bool:
        """See `DataFormat.recognises`."""
        return captions_file(Path(source)) is not None

    def rows(self, source: str) -> RowStream:
        """See `DataFormat.rows`."""
        return generated(coco_rows, file=str(captions_file(Path(source))))

    def estimate(self, source: str, rows: RowStream) -> int | None:
        """See `DataFormat.estimate`: the images are counted."""
        return coco_images(str(captions_file(Path(source))))


class TarFormat(DataFormat):
    """Tars of webdataset."""

    about = "tars (webdataset)"

    def recognises(self, source: str) -> bool:
        """See `DataFormat.recognises`."""
        return bool(named_files(source, (".tar",)))

    def rows(self, source: str) -> RowStream:
        """See `DataFormat.rows`: each tar is a shard."""
        return generated(tar_rows, tars=[str(file) for file in named_files(source, (".tar",))])

    def estimate(self, source: str, rows: RowStream) -> int | None:
        """See `DataFormat.estimate`: from the sizes of the tars, and how the first one begins."""
        try:
            return samples_in_tars(named_files(source, (".tar",)))
        except (TarError, OSError):  # which is told as it is read
            return None


class TableFormat(DataFormat):
    """A table of files and captions, which lies beside the files."""

    about = "a table beside its files (metadata.jsonl, .csv or .parquet)"

    def recognises(self, source: str) -> bool:
        """See `DataFormat.recognises`."""
        return _table(Path(source)) is not None

    def rows(self, source: str) -> RowStream:
        """See `DataFormat.rows`."""
        file = _table(Path(source))
        assert file is not None
        reader = _READERS[file.suffix.lower()]
        if reader == LINES:
            return rows_of_lines(lines(file), file.parent)
        return rows_of_table(table(reader, [file]), file.parent)

    def estimate(self, source: str, rows: RowStream) -> int | None:
        """See `DataFormat.estimate`: from the lines of the table."""
        file = _table(Path(source))
        assert file is not None
        return _rows_in(file)


class NestedTablesFormat(DataFormat):
    """Tables of files and captions in folders below one, as the hub's image folders keep their splits."""

    about = "tables beside their files, in several folders (metadata.jsonl, .csv or .parquet)"

    def recognises(self, source: str) -> bool:
        """See `DataFormat.recognises`."""
        return bool(_nested_tables(Path(source)))

    def rows(self, source: str) -> RowStream:
        """See `DataFormat.rows`: each table is a shard."""
        tables = _nested_tables(Path(source))
        readers = [_READERS[table.suffix.lower()] for table in tables]
        return generated(nested_rows, folder=source, tables=list(map(str, tables)), readers=readers)

    def estimate(self, source: str, rows: RowStream) -> int | None:
        """See `DataFormat.estimate`: from the lines of the tables."""
        return sum(_rows_in(Path(source, table)) for table in _nested_tables(Path(source)))


class ParquetFormat(DataFormat):
    """Parquet files that hold everything."""

    about = "parquet files"

    def recognises(self, source: str) -> bool:
        """See `DataFormat.recognises`."""
        return bool(named_files(source, (".parquet",)))

    def rows(self, source: str) -> RowStream:
        """See `DataFormat.rows`: each file is a shard."""
        return generated(parquet_rows, files=[str(file) for file in named_files(source, (".parquet",))])

    def estimate(self, source: str, rows: RowStream) -> int | None:
        """See `DataFormat.estimate`: as the files say."""
        return rows_of_parquet(named_files(source, (".parquet",)))


class FolderFormat(DataFormat):
    """Files with captions of the same name beside them."""

    about = "a folder of files, with captions of the same name in .txt"

    def recognises(self, source: str) -> bool:
        """See `DataFormat.recognises`."""
        return Path(source).is_dir()

    def rows(self, source: str) -> RowStream:
        """See `DataFormat.rows`: each sample is a shard."""
        stems = folder_rows(Path(source))
        return generated(_named_rows, folder=source, names=list(stems), files=list(stems.values()))

    def estimate(self, source: str, rows: RowStream) -> int | None:
        """See `DataFormat.estimate`: each sample is a shard."""
        return rows.num_shards


FORMATS: tuple[DataFormat, ...] = (
    HubFormat(),
    CocoFormat(),
    TableFormat(),
    TarFormat(),
    ParquetFormat(),
    NestedTablesFormat(),
    FolderFormat(),
)
"""All formats; the first one that recognises a data set reads it."""


def find_format(source: str) -> DataFormat:
    """Returns the format of a data set.

    Raises:
        FileNotFoundError: if there is nothing of that name.
        ValueError: if it has no format that is known; the message says which are.
    """
    if not source.startswith(HUB) and "*" not in source and not Path(source).exists():
        raise FileNotFoundError(f"There is no data set {source!s:.300}: give a folder, a file, or hub:owner/name.")
    found = next((each for each in FORMATS if each.recognises(source)), None)
    if found is None:
        known = "; ".join(each.about for each in FORMATS)
        raise ValueError(f"{source!s:.300} is no data set of a format that is known. These are: {known}.")
    return found


def _table(source: Path) -> Path | None:
    """The table of a data set, if it is kept as one."""
    if source.is_file():
        return source if source.suffix.lower() in _READERS and source.suffix.lower() != ".parquet" else None
    return next((source / name for name in METADATA if (source / name).is_file()), None)


def _nested_tables(source: Path) -> list[Path]:
    """The tables in the folders below one, relative to it: of a folder with several the first one counts."""
    tables = [Path(file) for file in files_below(source) if Path(file).name in METADATA]
    tables.sort(key=lambda table: METADATA.index(table.name), reverse=True)
    return sorted({table.parent: table for table in tables}.values())


def _rows_in(table: Path) -> int:
    """About how many rows a table has."""
    if _READERS[table.suffix.lower()] == "parquet":
        return rows_of_parquet([table])
    return max(0, lines_of(table) - (table.suffix.lower() == ".csv"))


def _named_rows(folder: str, names: Sequence[str], files: Sequence[Sequence[str]]) -> Iterator[Row]:
    for name, own in zip(names, files, strict=True):
        yield row_of_files(Path(folder), name, own)
