"""Passes of a step that are computed at once on the CPU.

The threads of one operation spend much of their time waiting for one another where the model is small. Passes with a
share of the threads each do not (`vd bench training`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def at_once(compute: Callable[[T], R], items: Sequence[T], device: torch.device) -> Iterator[R]:
    """What is computed from each, in their order. Each is computed as it would be alone."""
    threads = torch.get_num_threads()
    workers = min(len(items), threads) if device.type == "cpu" else 1
    if workers <= 1:
        yield from map(compute, items)
        return
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:
            yield from pool.map(compute, items)
    finally:
        torch.set_num_threads(threads)  # of threads to come, which take after the last that was told
