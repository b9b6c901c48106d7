"""The engine: a bounded queue of jobs, and one thread that computes those of one kind as a batch."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from threading import Condition, Thread

from versatile_diffusion.engine.jobs import Job, Status
from versatile_diffusion.engine.limits import EngineLimits
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import Failure, JobResult, Reason
from versatile_diffusion.engine.workers import ModelInfo, Worker

log = logging.getLogger(__name__)


class NotTaken(Exception):
    """A job cannot be taken; the message is for the user."""


class Busy(NotTaken):
    """A job cannot be taken now.

    Attributes:
        retry_after: seconds after which there may be room.
    """

    def __init__(self, why: str, retry_after: int) -> None:
        super().__init__(f"{why}: try again in {retry_after} s.")
        self.retry_after = retry_after


class Closed(NotTaken):
    """No job can be taken any more."""


class Observer:
    """Hears what the engine does, in the engine's threads. By default nothing is done with it."""

    def computed(self, requests: Sequence[JobRequest], seconds: float) -> None:
        """Hears that a batch was computed, and in how many seconds."""

    def finished(self, job: Job) -> None:
        """Hears that a job is final."""


class Engine:
    """Takes jobs, and computes them with a worker.

    Args:
        worker: what computes; it is closed with the engine.
        limits: how much is taken, and for how long.
        observer: hears what the engine does.

    Attributes:
        models: the models of the worker by name, the default first.
    """

    def __init__(self, worker: Worker, limits: EngineLimits = EngineLimits(), observer: Observer | None = None) -> None:
        self.models: Mapping[str, ModelInfo] = worker.models
        self.limits = limits
        self._worker = worker
        self._observer = observer or Observer()
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._changed = Condition()
        self._closed = False
        self._seconds_per_job = 1.0
        self._thread = Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    @property
    def is_alive(self) -> bool:
        """Whether jobs are being computed."""
        return self._thread.is_alive()

    def submit(self, request: JobRequest, owner: str = "", most: int | None = None) -> Job:
        """Puts a job into the queue.

        Args:
            request: what to make.
            owner: who asks.
            most: how many unfinished jobs the owner may have, this one among them.

        Raises:
            KeyError: if there is no such model.
            Busy: if too many are waiting, or unfinished.
            Closed: if nothing is computed any more.
        """
        if request.model not in self.models:
            raise KeyError(request.model)
        job = Job(request, owner)
        with self._changed:
            if self._closed or not self.is_alive:
                raise Closed("The server is being stopped, and takes no more jobs.")
            if most is not None and self.unfinished(owner) >= most:
                raise Busy(f"This key has {most} unfinished jobs", 1)
            if len(self._waiting) >= self.limits.queue:
                raise Busy(f"{len(self._waiting)} jobs are waiting already", self._retry_after())
            self._waiting.append(job)
            self._jobs[job.id] = job
            self._forget()
            self._changed.notify()
        return job

    def find(self, identifier: str) -> Job | None:
        """The job of that id; None if there never was one, or it is forgotten."""
        with self._changed:
            self._forget()
            return self._jobs.get(identifier)

    def position(self, job: Job) -> int:
        """The place of a job in the queue, from 1; 0 if it waits no more."""
        with self._changed:
            return self._waiting.index(job) + 1 if job in self._waiting else 0

    def unfinished(self, owner: str) -> int:
        """How many jobs of an owner are waiting or running."""
        with self._changed:
            return sum(job.owner == owner and not job.state.is_final for job in self._jobs.values())

    def cancel(self, job: Job) -> bool:
        """Stops a job, before it runs or at its next step. Others of its batch go on. False if it was final."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
        return self._finish(job, Status.CANCELLED)

    def stop(self) -> None:
        """Takes no more jobs, and fails those that are not finished."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            unfinished = [job for job in self._jobs.values() if not job.state.is_final]
            self._changed.notify_all()
        for job in unfinished:
            self._fail(job, Failure(Reason.CLOSED, "The server was stopped."))

    def close(self) -> None:
        """Stops the engine, and lets go of the models."""
        self.stop()
        self._thread.join()
        self._worker.close()

    # ---- the thread ----

    def _work(self) -> None:
        while work := self._next():
            started = time.monotonic()
            self._run(work)
            seconds = time.monotonic() - started
            self._seconds_per_job += 0.2 * (seconds / len(work) - self._seconds_per_job)
            self._observer.computed(list(work.values()), seconds)

    def _next(self) -> dict[Job, JobRequest]:
        """The job that has waited longest, and others of its kind as far as there is room. Nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return {}
            kind, room = self._waiting[0].request.kind, self.limits.batch
            work: dict[Job, JobRequest] = {}
            for job in self._waiting:
                count = len(job.request.seeds)
                if not work or (count <= room and job.request.kind == kind):
                    work[job] = job.request  # which is emptied if the job is cancelled
                    room -= count
            for job in work:
                self._waiting.remove(job)
            waiting = list(self._waiting)
        for job in waiting:
            job.advance()  # it has moved up
        return work

    def _run(self, work: Mapping[Job, JobRequest]) -> None:
        """Computes a batch. Where it fails as a whole, its jobs are computed one by one: only the guilty one fails."""
        now = time.monotonic()
        work = {job: request for job, request in work.items() if job.advance(status=Status.RUNNING, started=now)}
        if not work:
            return
        batch = _Batch(list(work), self.limits.timeout, self._fail)
        try:
            results = self._worker.run(list(work.values()), batch)
        except Exception as error:
            if not batch.wanted():
                return
            if len(work) > 1:
                for job, request in work.items():
                    self._run({job: request})
                return
            failure = Failure.of(error)
            log.log(logging.INFO if failure.reason is Reason.INVALID else logging.ERROR, "A job failed", exc_info=error)
            results = [failure]
        for job, result in zip(work, results, strict=True):
            match result:
                case JobResult():
                    self._finish(job, Status.SUCCEEDED, result)
                case Failure():
                    self._fail(job, result)
                case None:
                    pass  # the job is final already

    def _fail(self, job: Job, failure: Failure) -> bool:
        return self._finish(job, Status.FAILED, failure=failure)

    def _finish(
        self, job: Job, status: Status, result: JobResult | None = None, failure: Failure | None = None
    ) -> bool:
        finished = job.finish(status, result, failure)
        if finished:
            self._observer.finished(job)
            with self._changed:
                self._forget()
        return finished

    def _forget(self) -> None:
        """Forgets finished jobs: the old ones, and the oldest where they are too many or too large."""
        limits, held = self.limits, 0
        old = time.monotonic() - limits.keep_seconds
        final = [(job.state.finished, job) for job in self._jobs.values() if job.state.finished is not None]
        for newer, (finished, job) in enumerate(sorted(final, key=itemgetter(0), reverse=True)):
            held += job.size
            if finished < old or newer >= limits.keep_jobs or (newer and held > limits.keep_bytes):
                del self._jobs[job.id]

    def _retry_after(self) -> int:
        return max(1, math.ceil(self._seconds_per_job * len(self._waiting) / 2))


@dataclass(frozen=True)
class _Batch:
    """Jobs that are computed together; see `workers.Watch`.

    Attributes:
        jobs: what is computed.
        timeout: how many seconds each job may take.
        fail: makes a job fail.
    """

    jobs: Sequence[Job]
    timeout: float
    fail: Callable[[Job, Failure], object]

    def step(self, step: int, steps: int, previews: Mapping[int, object]) -> Collection[int]:
        for number, job in enumerate(self.jobs):
            shown = {"preview": previews[number]} if number in previews else {}
            job.advance(step=step, steps=steps, **shown)
        return self.wanted()

    def wanted(self) -> Collection[int]:
        now, limit = time.monotonic(), self.timeout
        late = Failure(Reason.TIMEOUT, f"The computation took longer than {limit:g} s: ask for fewer steps or outputs.")
        for job in self.jobs:
            if job.state.started is not None and now - job.state.started > limit:
                self.fail(job, late)
        return [number for number, job in enumerate(self.jobs) if not job.state.is_final]
