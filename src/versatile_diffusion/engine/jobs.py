"""Jobs: what is asked of the engine, on its way."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from threading import Lock
from uuid import uuid4

from versatile_diffusion._moved import former_names
from versatile_diffusion.engine.records import JobRecord
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import Failure, JobResult


class Status(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class JobState:
    """What there is to know of a job at one moment.

    Attributes:
        status: where the job is.
        step: how many steps are taken.
        steps: how many there are in all; 0 while that is not known.
        preview: the latest preview, an item of the modality, if there is any.
        result: what the job gave, if it succeeded.
        failure: why it failed, if it did.
        started, finished: when, in seconds of `time.monotonic`.
    """

    status: Status = Status.QUEUED
    step: int = 0
    steps: int = 0
    preview: object = None
    result: JobResult | None = None
    failure: Failure | None = None
    started: float | None = None
    finished: float | None = None

    @property
    def is_final(self) -> bool:
        """Whether the job stays as it is."""
        return self.finished is not None


class Job:
    """A request on its way. Any thread may read and advance it.

    Args:
        request: what to make; its data is gone when the job is final.
        owner: who asked.
        cost: see `costs.cost`.

    Attributes:
        summary: how the outputs are made, for people to read.
        record: the same, such that the outputs can be made again.
        created: when the job was made, in seconds since 1970.
    """

    def __init__(self, request: JobRequest, owner: str = "", cost: float = 1.0) -> None:
        self.id = uuid4().hex
        self.request = request
        self.summary = request.summary
        self.record = JobRecord.of(request)
        self.owner = owner
        self.cost = cost
        self.created = time.time()
        self._state = JobState()
        self._lock = Lock()
        self._listeners: list[Callable[[], object]] = []

    @property
    def state(self) -> JobState:
        """The state of the job now."""
        return self._state

    @property
    def size(self) -> int:
        """How many bytes a final job keeps: what it gave, and its inputs as far as they are in records."""
        return sum(map(len, self.record.inputs.values())) + (self._state.result.size if self._state.result else 0)

    def advance(self, **changes: object) -> bool:
        """Changes fields of the state and tells the listeners. A final job stays as it is, and the answer is False."""
        with self._lock:
            if self._state.is_final:
                return False
            self._state = replace(self._state, **changes)
            listeners = list(self._listeners)
        for listener in listeners:
            listener()
        return True

    def finish(self, status: Status, result: JobResult | None = None, failure: Failure | None = None) -> bool:
        """Makes the state final, and lets go of the data. The answer is False if it was final already."""
        finished = self.advance(status=status, result=result, failure=failure, preview=None, finished=time.monotonic())
        if finished:
            self.request = self.request.without_data()
        return finished

    @contextmanager
    def heard(self, listener: Callable[[], object]) -> Generator[None]:
        """Calls the listener after each change, in the thread that made it. It must return at once."""
        with self._lock:
            self._listeners.append(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)


__getattr__ = former_names(
    __name__,
    {
        "State": "versatile_diffusion.engine.jobs:JobState",
    },
)
