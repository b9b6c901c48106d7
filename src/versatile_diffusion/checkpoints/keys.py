"""Key tables: which of our tensors is which tensor of another layout.

A table is data. It maps every key of ours to one key of theirs, so the same table converts both ways.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

from versatile_diffusion.checkpoints.errors import CheckpointError, first_few


@dataclass(frozen=True)
class Theirs:
    """A tensor in another layout.

    Attributes:
        key: its name there.
        pointwise: whether it is stored there as a 1×1 convolution (o i 1 1), where we have a linear layer (o i).
    """

    key: str
    pointwise: bool = False


KeyTable = Mapping[str, Theirs]


@runtime_checkable
class Shaped(Protocol):
    """A tensor, or one that is still on disk."""

    @property
    def shape(self) -> Any: ...

    def reshape(self, *shape: int) -> Self: ...


T = TypeVar("T", bound=Shaped)


def to_ours(
    table: KeyTable,
    theirs: Mapping[str, T],
    *,
    wanted: Collection[str] | None = None,
    left_out: Sequence[str] = (),
    where: object = "the checkpoint",
) -> dict[str, T]:
    """Renames tensors of another layout to ours.

    Args:
        table: all keys of that layout that are known.
        theirs: tensors under their keys.
        wanted: keys of ours to return; all of the table by default.
        left_out: patterns (regular expressions on whole keys) of tensors that may be there and are not used.
        where: what errors call the checkpoint.

    Raises:
        CheckpointError: if a wanted tensor is missing, or a tensor is neither in the table nor named in `left_out`.
    """
    wanted = table.keys() if wanted is None else wanted
    missing = [table[key].key for key in wanted if table[key].key not in theirs]
    ignored = re.compile("|".join(left_out) or r"(?!)")
    unexpected = theirs.keys() - {entry.key for entry in table.values()}
    check(missing, sorted(key for key in unexpected if not ignored.fullmatch(key)), where)
    return {key: _as_ours(theirs[table[key].key], table[key]) for key in wanted}


def to_theirs(table: KeyTable, ours: Mapping[str, T]) -> dict[str, T]:
    """Renames our tensors to another layout. All keys of ours must be in the table."""
    check([], sorted(ours.keys() - table.keys()), "the model")
    return {table[key].key: _as_theirs(tensor, table[key]) for key, tensor in ours.items()}


def check(missing: Sequence[str], unexpected: Sequence[str], where: object) -> None:
    """Raises a CheckpointError that names the keys, if there are any."""
    if not (missing or unexpected):
        return
    found = [f"{len(missing)} missing ({first_few(missing)})"] if missing else []
    found += [f"{len(unexpected)} unexpected ({first_few(unexpected)})"] if unexpected else []
    raise CheckpointError(
        f"{where} does not fit the model: {'; '.join(found)}. It may be damaged or belong to another model: "
        "compare its size and checksum with the original's, and download it again if they differ."
    )


def _as_ours(tensor: T, entry: Theirs) -> T:
    return tensor.reshape(*tensor.shape[:2]) if entry.pointwise else tensor


def _as_theirs(tensor: T, entry: Theirs) -> T:
    return tensor.reshape(*tensor.shape, 1, 1) if entry.pointwise else tensor
