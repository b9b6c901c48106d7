"""The engine: a bounded queue of jobs, and one thread that computes those of one kind as a batch.

Whose job is next, and which may go in between, is decided in `scheduling`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from threading import Condition, Thread

from versatile_diffusion._moved import former_names
from versatile_diffusion.engine.costs import Speed, cost
from versatile_diffusion.engine.jobs import Job, Status
from versatile_diffusion.engine.limits import EngineLimits
from versatile_diffusion.engine.refusals import Busy, Closed, TooLong
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import Failure, JobResult, Reason
from versatile_diffusion.engine.running import RunningBatch
from versatile_diffusion.engine.scheduling import FairQueue
from versatile_diffusion.engine.workers import Disturbed, ModelInfo, Worker

log = logging.getLogger(__name__)


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
        clock: tells the time in seconds, by which computing is measured and shared.

    Attributes:
        models: the models of the worker by name, the default first.
    """

    def __init__(
        self,
        worker: Worker,
        limits: EngineLimits = EngineLimits(),
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.models: Mapping[str, ModelInfo] = worker.models
        self.limits = limits
        self._worker = worker
        self._observer = observer or Observer()
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._speed = Speed()
        self._queue = FairQueue[Job](self._seconds)
        self._changed = Condition()
        self._closed = False
        self._seconds_per_job = 1.0
        self._thread = Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        with self._changed:
            return len(self._queue)

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
            ValueError: if a preset cannot be used so; see `resolved`.
            TooLong: if it would take longer than a job may, even at the best speed that was seen.
            Busy: if too many are waiting, or unfinished.
            Closed: if nothing is computed any more.
        """
        if request.model not in self.models:
            raise KeyError(request.model)
        request = request.resolved(self.models[request.model].few_steps)
        job = Job(request, owner, cost(request, self.models[request.model]))
        self._require_time(job)
        with self._changed:
            if self._closed or not self.is_alive:
                raise Closed("The server is being stopped, and takes no more jobs.")
            if most is not None and self.unfinished(owner) >= most:
                raise Busy(f"This key has {most} unfinished jobs", 1)
            if len(self._queue) >= self.limits.queue:
                raise Busy(f"{len(self._queue)} jobs are waiting already", self._retry_after())
            self._queue.add(owner, job)
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
        if job.state.status is not Status.QUEUED:
            return 0
        with self._changed:
            order = self._queue.order()
        return order.index(job) + 1 if job in order else 0

    def unfinished(self, owner: str) -> int:
        """How many jobs of an owner are waiting or running."""
        with self._changed:
            return sum(job.owner == owner and not job.state.is_final for job in self._jobs.values())

    def cancel(self, job: Job) -> bool:
        """Stops a job, before it runs or at its next step. Others of its batch go on. False if it was final."""
        with self._changed:
            waiting = list(self._queue) if self._queue.remove(job.owner, job) else []
        cancelled = self._finish(job, Status.CANCELLED)
        _moved_up(waiting)
        return cancelled

    def stop(self) -> None:
        """Takes no more jobs, and fails those that are not finished."""
        with self._changed:
            self._closed = True
            self._queue.clear()
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
            self._run(work)

    def _next(self, beside: RunningBatch | None = None) -> dict[Job, JobRequest]:
        """The job whose turn it is, and others of its kind as far as there is room. Nothing at the end.

        Args:
            beside: a batch at one of its steps, in which others may go in between: nothing if none may.
        """
        running = None if beside is None else beside.progress
        with self._changed:
            if running is None:
                self._changed.wait_for(lambda: len(self._queue) or self._closed)
            found = None if self._closed else self._queue.next(running)
            if found is None:
                return {}
            owner, first = found
            work = self._with_its_kind(first, math.inf if running is None else running.budget)
            self._queue.begin(owner)
            for job in work:
                self._queue.remove(job.owner, job)
            waiting = list(self._queue)
        _moved_up(waiting)
        return work

    def _with_its_kind(self, first: Job, budget: float) -> dict[Job, JobRequest]:
        """A job that waits, and others that can be computed together with it, in that many seconds."""
        kind, room = first.request.kind, self.limits.batch - len(first.request.seeds)
        left = budget if math.isinf(budget) else budget - self._seconds(first)
        work = {first: first.request}  # which is emptied if the job is cancelled
        for job in self._queue:
            count, seconds = len(job.request.seeds), 0.0 if math.isinf(left) else self._seconds(job)
            if job is not first and count <= room and seconds <= left and job.request.kind == kind:
                work[job] = job.request
                room, left = room - count, left - seconds
        return work

    def _run(self, work: Mapping[Job, JobRequest]) -> None:
        """Computes a batch. Where it fails as a whole, its jobs are computed one by one: only the guilty one fails."""
        now = time.monotonic()
        work = {job: request for job, request in work.items() if job.advance(status=Status.RUNNING, started=now)}
        if not work:
            return
        batch = RunningBatch(work, self.limits.timeout, self._clock, self._fail, self._after_step)
        try:
            results = self._worker.run(list(work.values()), batch)
        except Exception as error:
            self._computed(batch)
            self._after_failure(batch, error)
            return
        self._computed(batch)
        for job, result in zip(work, results, strict=True):
            match result:
                case JobResult():
                    self._finish(job, Status.SUCCEEDED, result)
                case Failure():
                    self._fail(job, result)
                case None:
                    pass  # the job is final already

    def _after_failure(self, batch: RunningBatch, error: Exception) -> None:
        work = batch.work
        if isinstance(error, Disturbed):
            self._run(work)
        elif not batch.wanted():
            return
        elif len(work) > 1:
            for job, request in work.items():
                self._run({job: request})
        else:
            failure = Failure.of(error)
            level = logging.INFO if failure.reason is Reason.INVALID else logging.ERROR
            log.log(level, "A job failed", exc_info=error)
            self._fail(next(iter(work)), failure)

    def _after_step(self, batch: RunningBatch) -> None:
        """Learns how quick the model is, and computes what may go in between."""
        self._charge(batch)
        if batch.step_number > 1 or batch.steps == 1:  # the first one reads and encodes, too
            self._speed.measured(next(iter(batch.work.values())), batch.cost / batch.steps, batch.last)
        while batch.wanted() and (others := self._next(beside=batch)):
            with batch.paused():
                self._run(others)

    def _computed(self, batch: RunningBatch) -> None:
        batch.note_time()
        self._charge(batch)
        self._seconds_per_job += 0.2 * (batch.own / len(batch.work) - self._seconds_per_job)
        self._observer.computed(list(batch.work.values()), batch.own)

    def _charge(self, batch: RunningBatch) -> None:
        """Charges the owners of a batch for its time since the last step."""
        with self._changed:
            for job in batch.work:
                self._queue.charge(job.owner, batch.last * job.cost / batch.cost)

    # ---- what jobs cost ----

    def _seconds(self, job: Job) -> float:
        return self._speed.seconds(job.request, job.cost)

    def _require_time(self, job: Job) -> None:
        seconds, most = self._speed.at_best(job.request, job.cost), self.limits.timeout
        if seconds > most:
            raise TooLong(
                f"That would take {seconds:.0f} s or more here, and a request may take {most:g} s: ask for fewer steps "
                "or outputs, or for a smaller size."
            )

    # ---- the end of jobs ----

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
        return max(1, math.ceil(self._seconds_per_job * len(self._queue) / 2))


def _moved_up(waiting: Sequence[Job]) -> None:
    """Tells those who wait that their places may be better now."""
    for job in waiting:
        job.advance()


__getattr__ = former_names(__name__, {"NotTaken": "versatile_diffusion.engine.refusals:NotTaken"})
