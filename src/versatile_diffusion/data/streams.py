"""What `datasets` and `webdataset` give, whose types they leave open, as iterators of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from versatile_diffusion.data.sample import Row

RowOf = Callable[[Mapping[str, object], int], Row]
"""Makes a row of a record of a table, and of its number."""


UNREADABLE = "\N{REPLACEMENT CHARACTER}"
"""What stands in a line for bytes that are no UTF-8."""


@runtime_checkable
class RowStream(Protocol):
    """Entries that `datasets` streams from shards; it can tell where it is, and go on there."""

    def __iter__(self) -> Iterator[Mapping[str, object]]: ...

    def state_dict(self) -> dict[str, object]: ...

    def load_state_dict(self, state_dict: dict[str, object]) -> None: ...

    def set_epoch(self, epoch: int) -> None:
        """Draws an order of the shards; in epoch 0 it is their own."""

    @property
    def num_shards(self) -> int: ...


def generated(generate: Callable[..., Iterator[Row]], **shards: object) -> RowStream:
    """Streams rows that a function yields; what it is given as lists are shards."""
    datasets: Any = import_module("datasets")
    stream: RowStream = datasets.IterableDataset.from_generator(_entries, gen_kwargs={"generate": generate, **shards})
    return stream


def share_out(stream: RowStream, rank: int, processes: int) -> RowStream:
    """Returns what one of several processes reads: every n-th shard, or every n-th entry where shards are too few."""
    distributed: Any = import_module("datasets.distributed")
    by = "shards" if stream.num_shards >= processes else "examples"
    shared: RowStream = distributed.split_dataset_by_node(stream, rank, processes, strategy=by)
    return shared


def lines(file: Path) -> Any:
    """Streams the lines of a text in UTF-8 that are not blank, each under the name "text"; see `UNREADABLE`."""
    datasets: Any = import_module("datasets")
    encoding = {"encoding": "utf-8-sig", "encoding_errors": "replace"}
    found = datasets.load_dataset("text", data_files=[str(file)], split="train", streaming=True, **encoding)
    return found.filter(_is_said)


def _is_said(line: Mapping[str, str]) -> bool:
    return bool(line["text"].strip())


def table(reader: str, files: Sequence[Path]) -> Any:
    """Streams the records of tables on this machine; the reader is "csv" or "parquet"."""
    datasets: Any = import_module("datasets")
    return datasets.load_dataset(reader, data_files=[str(file) for file in files], split="train", streaming=True)


def parquet(file: Path) -> Any:
    """Streams the records of a parquet file."""
    return table("parquet", [file])


def hub_table(name: str) -> Any:
    """Streams the records of a data set of the hub."""
    datasets: Any = import_module("datasets")
    return datasets.load_dataset(name, split="train", streaming=True)


def hub_rows(name: str) -> int | None:
    """Returns how many records a data set of the hub has, if the hub says so."""
    datasets: Any = import_module("datasets")
    splits: Any = datasets.load_dataset_builder(name).info.splits
    return None if not splits or "train" not in splits else splits["train"].num_examples or None


def tar_entries(tar: str, handler: Callable[[Exception], bool]) -> Iterator[Mapping[str, object]]:
    """Yields the entries of a tar; the handler is told of what is damaged."""
    webdataset: Any = import_module("webdataset")
    # which process reads which tar is decided before: see `share_out`
    yield from webdataset.WebDataset([tar], shardshuffle=False, handler=handler, empty_check=False, nodesplitter=iter)


def _entries(generate: Callable[..., Iterator[Row]], **shards: object) -> Iterator[dict[str, Row]]:
    for row in generate(**shards):
        yield {"row": row}
