"""Jobs: requests on their way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from threading import Lock
from typing import Any
from uuid import uuid4

from versatile_diffusion.engine.requests import Failure, Made, Replayable, Request


class Status(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class State:
    """What there is to know of a job at one moment.

    Attributes:
        status: where it is.
        step: steps taken.
        steps: steps in all; 0 while that is not known.
        preview: the latest one, if there is any.
        made: what it gave, if it succeeded.
        failure: why it failed, if it did.
        started, finished: when, in seconds of `time.monotonic`.
    """

    status: Status = Status.QUEUED
    step: int = 0
    steps: int = 0
    preview: Any = None
    made: Made | None = None
    failure: Failure | None = None
    started: float | None = None
    finished: float | None = None

    @property
    def is_final(self) -> bool:
        """Whether it stays as it is."""
        return self.finished is not None


class Job:
    """A request on its way. Any thread may read and advance it.

    Args:
        request: what to make; its data is gone when the job is final.
        owner: who asked.

    Attributes:
        recipe: of the request, in words.
        replayable: the same, such that the outputs can be made again.
        created: when, in seconds since 1970.
    """

    def __init__(self, request: Request, owner: str = "") -> None:
        self.id = uuid4().hex
        self.request = request
        self.recipe = request.recipe
        self.replayable = Replayable.of(request)
        self.owner = owner
        self.created = time.time()
        self._state = State()
        self._lock = Lock()
        self._listeners: list[Callable[[], object]] = []

    @property
    def state(self) -> State:
        """Its state now."""
        return self._state

    @property
    def size(self) -> int:
        """Bytes that it keeps when it is final: what it gave, and its inputs as far as they are in recipes."""
        return sum(map(len, self.replayable.embedded.values())) + (self._state.made.size if self._state.made else 0)

    def advance(self, **changes: Any) -> bool:
        """Changes the state and tells the listeners. False, and nothing changed, if the job was final already."""
        with self._lock:
            if self._state.is_final:
                return False
            self._state = replace(self._state, **changes)
            listeners = list(self._listeners)
        for listener in listeners:
            listener()
        return True

    def finish(self, status: Status, made: Made | None = None, failure: Failure | None = None) -> bool:
        """Makes the state final, and lets go of the data. False if it was final already."""
        finished = self.advance(status=status, made=made, failure=failure, preview=None, finished=time.monotonic())
        if finished:
            self.request = self.request.without_data()
        return finished

    @contextmanager
    def heard(self, listener: Callable[[], object]) -> Iterator[None]:
        """Calls the listener after each change, in the thread that made it. It must return at once."""
        with self._lock:
            self._listeners.append(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)
