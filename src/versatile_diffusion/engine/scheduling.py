"""Whose job is next, and which may go in between: the policy of the engine, without threads, clocks or models.

Owners, which are API keys, have equal shares of the computing, however much each asks for, by start-time fair queueing
(Goyal, Vin and Cheng, 1996): the owner who has had the least is next, and of its jobs the oldest. Whoever comes back
begins with the others of now, so that nothing is saved up, and nobody waits for ever.

A batch that has begun is computed to its end, but it lets others go in between, from one of its steps to the next,
if these are much shorter than what is left of it. So a short job waits for a step of a long one, not for all of it. The
long one keeps a share of the time, so that it ends, too.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

SHORTER = 4
"""Times that what is left of a batch is longer than what goes in between."""
KEPT = 4
"""A batch keeps one of so many seconds for itself."""
WORTH_IT = 0.25
"""Seconds that a batch must still need for others to go in between."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Progress:
    """A batch at one of its steps.

    Attributes:
        owner: whose batch it is.
        own: seconds that it has been computed for.
        given: seconds for which others went in between.
        left: seconds that the longest of its jobs still needs, as far as is known.
    """

    owner: str
    own: float
    given: float
    left: float

    @property
    def budget(self) -> float:
        """Seconds that a batch may take which goes in between now; 0 while none may, since enough time was given."""
        if self.left < WORTH_IT or self.given > (KEPT - 1) * self.own:
            return 0.0
        return self.left / SHORTER


class FairQueue(Generic[Item]):
    """Jobs that wait.

    Args:
        seconds: how long a job will be computed for, as far as is known; infinity where nothing is known.
    """

    def __init__(self, seconds: Callable[[Item], float]) -> None:
        self._seconds = seconds
        self._waiting: dict[str, deque[Item]] = {}
        self._had: dict[str, float] = {}
        self._now = 0.0

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __iter__(self) -> Iterator[Item]:
        """The jobs of the owner who has had the least first, and of each the oldest first."""
        for owner in self._owners():
            yield from self._waiting[owner]

    def add(self, owner: str, item: Item) -> None:
        """Lets a job of an owner wait."""
        self._had[owner] = max(self._had.get(owner, self._now), self._now)
        self._waiting.setdefault(owner, deque()).append(item)

    def remove(self, owner: str, item: Item) -> bool:
        """Lets a job wait no more. False if it did not."""
        items = self._waiting.get(owner, deque())
        if item not in items:
            return False
        items.remove(item)
        if not items:
            del self._waiting[owner]
        return True

    def clear(self) -> None:
        """Lets no job wait any more."""
        self._waiting.clear()

    def next(self, running: Progress | None = None) -> tuple[str, Item] | None:
        """The job whose turn it is, with its owner; beside a running batch one that may go in between, if there is any.

        Between jobs of one owner only their lengths decide; between owners also who has had less.
        """
        for owner in self._owners():
            if running is None:
                return owner, self._waiting[owner][0]
            if owner != running.owner and self._had[owner] > self._had.get(running.owner, self._now):
                continue
            for item in self._waiting[owner]:
                if self._seconds(item) <= running.budget:
                    return owner, item
        return None

    def begin(self, owner: str) -> None:
        """Notes that a job of this owner begins, because it was next."""
        self._had[owner] = self._now = max(self._had.get(owner, self._now), self._now)

    def charge(self, owner: str, seconds: float) -> None:
        """Notes that an owner has had so much of the computing."""
        self._had[owner] = self._had.get(owner, self._now) + seconds
        for idle in [one for one, had in self._had.items() if had <= self._now and one not in self._waiting]:
            del self._had[idle]  # which is what is known of whoever comes new

    def order(self) -> list[Item]:
        """The jobs in the order in which they would begin if no other came, and none went in between."""
        had, waiting = dict(self._had), {owner: deque(items) for owner, items in self._waiting.items()}
        order: list[Item] = []
        while waiting:
            owner = min(waiting, key=lambda one: had[one])
            order.append(waiting[owner].popleft())
            seconds = self._seconds(order[-1])
            had[owner] += seconds if math.isfinite(seconds) else 1.0
            if not waiting[owner]:
                del waiting[owner]
        return order

    def _owners(self) -> list[str]:
        return sorted(self._waiting, key=lambda owner: self._had[owner])
