"""Timing of works that take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Timed(Generic[T]):
    """How many seconds a call took, and what it gave."""

    seconds: float
    output: T


def timed(work: Callable[[int], T], number: int) -> Timed[T]:
    """Calls a work once. A GPU computes on after a call has returned, so it is waited for before and after."""
    _synchronize()
    begun = time.perf_counter()
    output = work(number)
    _synchronize()
    return Timed(time.perf_counter() - begun, output)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def alternate(works: Mapping[str, Callable[[int], T]], rounds: int) -> dict[str, list[Timed[T]]]:
    """Times works in turns, so that what slows the machine for a while slows all of them.

    Args:
        works: Functions by their names, called with the number of the round, from which they make their inputs.
        rounds: How often each is called. Every other round goes backwards, so that none always follows the same one.

    Returns:
        What each work took and gave, in the order of the rounds.
    """
    found: dict[str, list[Timed[T]]] = {name: [] for name in works}
    for number in range(rounds):
        for name in list(works)[:: -1 if number % 2 else 1]:
            found[name].append(timed(works[name], number))
    return found


def seconds(runs: list[Timed[T]]) -> list[float]:
    """Returns the seconds of each round."""
    return [run.seconds for run in runs]


def ratios(runs: list[Timed[T]], peer: list[Timed[T]]) -> list[float]:
    """Returns how many times longer the peer took in each round."""
    return [other.seconds / run.seconds for run, other in zip(runs, peer, strict=True)]
