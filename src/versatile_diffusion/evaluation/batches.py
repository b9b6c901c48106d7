"""Items some at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

BATCH = 128
"""Items that are measured at once."""

T = TypeVar("T")


def batches(items: Sequence[T], size: int = BATCH) -> Iterator[Sequence[T]]:
    """Yields the items in their order, `size` at a time; the last batch may be smaller."""
    return (items[i : i + size] for i in range(0, len(items), size))
