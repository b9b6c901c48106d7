"""Between HTTP and the engine: takes requests in, and waits for jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import HTTPException
from fastapi import Request as HTTPRequest

from versatile_diffusion._moved import former_names
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.jobs import Job, JobState
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import JobResult
from versatile_diffusion.engine.workers import ModelInfo, UnknownModel
from versatile_diffusion.serving.limits import Limits
from versatile_diffusion.serving.problems import failed
from versatile_diffusion.serving.schemas import JobOut
from versatile_diffusion.serving.uploads import Uploads

T = TypeVar("T")

_POLL = 1.0  # seconds between looks whether a client is still there


class JobService:
    """Makes jobs of requests, and tells what becomes of them.

    Args:
        engine: what computes.
        limits: how much a request, and a key, may ask for.
    """

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self.engine = engine
        self.limits = limits
        self._readers = CapacityLimiter(2)  # images that are decoded at once, each of which takes memory
        self._resamplers = CapacityLimiter(2)  # the same of those that are resampled

    async def submit(
        self,
        read: Callable[[Uploads, Mapping[str, ModelInfo]], JobRequest],
        files: Mapping[str, bytes],
        owner: str,
    ) -> Job:
        """Reads a request in a thread, and queues it.

        Args:
            read: (what was sent along, the models with the default first) -> the request. It may raise ValueError, and
                UnknownModel.
            files: what was sent along.
            owner: who asks.

        Raises:
            HTTPException: if it cannot be read, asks for too much, or for a model that is not there.
            NotTaken: see `Engine.submit`.
        """

        def work() -> Job:
            models = self.engine.models
            try:
                request = read(Uploads(files, self.limits.input_pixels), models)
                request = request.resolved(models[request.model].few_steps)
                self.limits.check(request, models[request.model])
                return self.engine.submit(request, owner, self.limits.concurrency if owner else None)
            except UnknownModel as error:
                raise HTTPException(404, str(error)) from error
            except ValueError as error:
                raise HTTPException(422, str(error)) from error

        return await to_thread.run_sync(work, limiter=self._readers)

    def find(self, identifier: str, owner: str) -> Job:
        """The job of that id. Raises HTTPException if there is none, or it is another owner's."""
        job = self.engine.find(identifier)
        if job is None or job.owner != owner:
            raise HTTPException(404, "There is no such job, or it is forgotten.")
        return job

    def shown(self, job: Job, state: JobState | None = None) -> JobOut:
        """A job as its client sees it, now or in a state that it had."""
        return JobOut.of(job, state or job.state, self.engine.position(job))

    async def result(self, job: Job, request: HTTPRequest) -> JobOut:
        """The job when it is final, as its client sees it; see `finished`."""
        await self.finished(job, request)
        return await to_thread.run_sync(self.shown, job)

    async def finished(self, job: Job, request: HTTPRequest) -> JobResult:
        """What a job gave, when it is final. Cancels it if the client goes.

        Raises:
            HTTPException: if it gave nothing.
        """
        async for _ in job_states(job, _POLL):
            if await request.is_disconnected():
                self.engine.cancel(job)
        return made_by(job)

    async def resampled(self, work: Callable[[], T]) -> T:
        """What a function returns that resamples images, in a thread, of which there are few."""
        return await to_thread.run_sync(work, limiter=self._resamplers)

    async def changes(self, job: Job) -> AsyncIterator[JobOut]:
        """The job now, whenever it has changed, and when it is final. A slow reader misses what is outdated."""
        async for state in job_states(job):
            yield await to_thread.run_sync(self.shown, job, state)  # images are compressed, while others are served


def made_by(job: Job) -> JobResult:
    """What a final job gave. Raises HTTPException if it gave nothing."""
    if job.state.failure is not None:
        raise failed(job.state.failure)
    if job.state.result is None:
        raise HTTPException(409, "The job was cancelled.")
    return job.state.result


async def job_states(job: Job, at_least_every: float | None = None) -> AsyncIterator[JobState]:
    """The state of a job now, whenever it has changed, and when it is final. A slow reader misses what is outdated."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        with suppress(RuntimeError):  # the server is stopped, and nobody listens
            loop.call_soon_threadsafe(changed.set)

    with job.heard(tell):
        while True:
            changed.clear()
            state = job.state
            yield state
            if state.is_final:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), at_least_every)


__getattr__ = former_names(
    __name__,
    {
        "Desk": "versatile_diffusion.serving.job_service:JobService",
    },
)
