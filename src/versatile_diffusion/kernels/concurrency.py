"""What does not depend on one another, computed at once on the CPU.

The threads of one operation wait for one another at its end, and where operations are small they do little else.
Workers that take a share of the threads each, and many operations by themselves, do not.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

T = TypeVar("T")
R = TypeVar("R")


class _Here(threading.local):
    """What belongs to the thread that asks.

    Attributes:
        share: of the threads, where it is a worker.
        total: threads that all workers share.
        workers: of its own, by their number and share.
    """

    share: int | None = None
    total: int | None = None

    def __init__(self) -> None:
        self.workers: dict[tuple[int, int], ThreadPoolExecutor] = {}


_here = _Here()
os.register_at_fork(after_in_child=lambda: _here.workers.clear())  # none survives there


def at_once(compute: Callable[[T], R], items: Sequence[T], device: torch.device) -> Iterator[R]:
    """Returns what is computed from each item, in their order. Each is computed as it would be alone."""
    threads = _here.share or torch.get_num_threads()
    count = min(len(items), threads)
    if count <= 1 or device.type != "cpu" or _is_watched():
        return map(compute, items)
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def as_here(item: T) -> R:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            return compute(item)

    return _workers(count, threads // count).map(as_here, items)


def _is_watched() -> bool:
    """Whether the thread is in a state that its workers would not share."""
    return torch.compiler.is_compiling() or is_in_torch_dispatch_mode() or torch.is_autocast_enabled("cpu")


def _workers(count: int, share: int) -> ThreadPoolExecutor:
    if (count, share) not in _here.workers:
        all_there, total = threading.Barrier(count + 1), _here.total or torch.get_num_threads()

        def begin() -> None:
            _here.share, _here.total = share, total
            torch.get_num_threads()  # whose first call in a thread makes it like all others
            torch.set_num_threads(share)
            all_there.wait()

        workers = ThreadPoolExecutor(count, initializer=begin)
        for _ in range(count):
            workers.submit(int)
        all_there.wait()
        last = threading.Thread(target=torch.set_num_threads, args=(total,))  # threads to come take after it
        last.start()
        last.join()
        _here.workers[count, share] = workers
    return _here.workers[count, share]
