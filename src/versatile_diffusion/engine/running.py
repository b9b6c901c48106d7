"""A batch on its way: jobs that are computed together, the time that they took, and that which others took between."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager

from versatile_diffusion.engine.jobs import Job
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import Failure, Reason
from versatile_diffusion.engine.scheduling import Progress


class RunningBatch:
    """Jobs that are computed together; see `workers.Watch`.

    Args:
        work: what is computed, by its job.
        timeout: how many seconds the batch may be computed for, without what others take in between.
        clock: tells the time in seconds.
        fail: makes a job fail.
        after_step: called after each step, with the batch; others may be computed in it, inside of `paused`.

    Attributes:
        cost: what all jobs cost together; see `costs.cost`.
        step_number: how many steps are taken.
        steps: how many there are in all; 0 while that is not known.
        own: seconds that it was computed for, up to its last step.
        last: seconds of these since the step before.
    """

    def __init__(
        self,
        work: Mapping[Job, JobRequest],
        timeout: float,
        clock: Callable[[], float],
        fail: Callable[[Job, Failure], object],
        after_step: Callable[[RunningBatch], object],
    ) -> None:
        self.work = work
        self.cost = sum(job.cost for job in work)
        self.step_number = self.steps = 0
        self.own = self.last = 0.0
        self._given = 0.0
        self._timeout, self._clock, self._fail, self._after_step = timeout, clock, fail, after_step
        self._started = clock()

    @property
    def progress(self) -> Progress:
        """How far it is, for the policy. Its longest job counts: others as short as its own do not go in between."""
        left = self.own / self.step_number * (self.steps - self.step_number)
        longest = max(job.cost for job in self.work) / self.cost
        return Progress(next(iter(self.work)).owner, self.own, self._given, left * longest)

    def note_time(self) -> None:
        """Brings `own` and `last` up to now."""
        before, self.own = self.own, self._clock() - self._started - self._given
        self.last = self.own - before

    @contextmanager
    def paused(self) -> Generator[None]:
        """Others are computed in here, and their time is not the batch's."""
        began = self._clock()
        try:
            yield
        finally:
            self._given += self._clock() - began

    def step(self, step: int, steps: int, previews: Mapping[int, object]) -> Collection[int]:
        """See `Watch.step`."""
        for number, job in enumerate(self.work):
            shown = {"preview": previews[number]} if number in previews else {}
            job.advance(step=step, steps=steps, **shown)
        self.step_number, self.steps = step, steps
        self.note_time()
        self._after_step(self)
        return self.wanted()

    def wanted(self) -> Collection[int]:
        """See `Watch.wanted`."""
        if self._clock() - self._started - self._given > self._timeout:
            late = f"The computation took longer than {self._timeout:g} s: ask for fewer steps or outputs."
            for job in self.work:
                self._fail(job, Failure(Reason.TIMEOUT, late))
        return [number for number, job in enumerate(self.work) if not job.state.is_final]
