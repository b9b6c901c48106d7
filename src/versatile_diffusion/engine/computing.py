"""Jobs computed by a pipeline, those of one kind as one batch. An output depends on its seed, not on its batch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from versatile_diffusion.applications.editing import Method, edited
from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
from versatile_diffusion.context import Context
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import Failure, JobResult
from versatile_diffusion.pipeline.conditioning import read_items
from versatile_diffusion.pipeline.initial_latents import encode_start
from versatile_diffusion.pipeline.request import Request, is_data
from versatile_diffusion.provenance.record import BatchRecord, RemainderRecord
from versatile_diffusion.provenance.recording import computed_by
from versatile_diffusion.sampling.sampler import Step, StepChange

OnStep = Callable[[int, int, Mapping[int, object]], Collection[int]]
"""(steps taken, steps in all, previews by the number of their job) -> numbers of the jobs that go on."""

log = logging.getLogger(__name__)


class Stopped(Exception):
    """Nobody wants the outputs any more."""


@torch.no_grad()
def compute(
    pipe: VersatileDiffusionPipeline, jobs: Sequence[JobRequest], on_step: OnStep
) -> list[JobResult | Failure | None]:
    """Computes jobs of one kind.

    Args:
        pipe: the model of the jobs.
        jobs: what to make.
        on_step: called after each step.

    Returns:
        What each job gave: None if it did not go on. A job whose data cannot be read fails alone.

    Raises:
        Stopped: if none goes on.
        Exception: whatever the pipeline raises for the batch.
    """
    results: dict[int, JobResult | Failure] = {}
    ready: dict[int, JobRequest] = {}
    notes: dict[int, list[str]] = {}
    written: dict[int, str] = {}
    for number, job in enumerate(jobs):
        with _noted() as notes[number]:
            try:
                one = rewritten(pipe, job)
                if one is not job:
                    written[number] = str(one.request.contexts[0].data)
                    notes[number].append(f"Painted from the words “{written[number]}”.")
                ready[number] = replace(one, request=encoded(pipe, one.request))
            except Exception as error:
                log.info("A request could not be read", exc_info=error)
                results[number] = Failure.of(error)
    if ready:
        with _noted() as common:
            made = _generate(pipe, ready, on_step)
        for number, one in made.items():
            told = tuple(dict.fromkeys([*notes[number], *common]))
            results[number] = replace(one, notes=told, written=written.get(number))
    return [results.get(number) for number in range(len(jobs))]


def rewritten(pipe: VersatileDiffusionPipeline, job: JobRequest) -> JobRequest:
    """An edit as what it is painted from: the rewritten description, and the image. Other jobs stay as they are.

    Raises:
        TypeError, ValueError: if the image cannot be read, or the model cannot describe it.
    """
    if job.edit is None:
        return job
    (seen,) = job.request.contexts
    images = read_items(pipe.modality(seen.modality), [seen.data])
    text, image = edited(pipe, images, method=Method.REWRITE, **dict(job.edit))
    (words,) = read_items(pipe.modality(text.modality), text.data)
    contexts = (text.changed(data=words), seen.changed(weight=image.weight))
    return replace(job, request=job.request.replaced(contexts=contexts), edit=None)


def encoded(pipe: VersatileDiffusionPipeline, request: Request) -> Request:
    """The request with its data as embeddings and latents, which is all that differs within a batch.

    Raises:
        TypeError, ValueError: if data cannot be read, or holds several items.
    """
    start = request.start
    if start is not None:
        start = encode_start(pipe.modality(request.to), start, request.height, request.width)
        _require_one(start, "start")
    return request.replaced(
        contexts=tuple(_embedded(pipe, context) for context in request.contexts if context.weight > 0),
        negative=tuple(_embedded(pipe, context) for context in request.negative if context.weight > 0),
        start=start,
    )


def joined(requests: Sequence[Request]) -> Request:
    """One request of encoded ones of one kind, with an item for each of their outputs."""
    rows = [request for request in requests for _ in range(request.num_outputs)]
    starts = [row.start for row in rows if isinstance(row.start, Tensor)]
    noise = [request.latents for request in requests if request.latents is not None]
    return rows[0].replaced(
        contexts=_in_columns([row.contexts for row in rows]),
        negative=_in_columns([row.negative for row in rows]),
        start=torch.cat(starts) if starts else None,
        latents=torch.cat(noise) if noise else None,
        num_outputs=1,
        seeds=tuple(seed for request in requests for seed in request.seeds or ()),
        decoding={
            name: [row.decoding[name] for row in rows] if is_data(value) else value
            for name, value in rows[0].decoding.items()
        },
    )


def _embedded(pipe: VersatileDiffusionPipeline, context: Context) -> Context:
    if context.embedding is not None:
        return context
    tokens = pipe.encode_context(context.modality, context.data, mask=context.mask)
    _require_one(tokens, "context")
    return context.changed(data=None, mask=None, embedding=tokens)


def _require_one(items: Tensor, what: str) -> None:
    if len(items) != 1:
        raise ValueError(f"A {what} of a request holds one item, got {len(items)}.")


def _in_columns(rows: Sequence[Sequence[Context]]) -> tuple[Context, ...]:
    """Contexts of all rows, one for each place, whose embeddings have a row for each row."""
    return tuple(
        column[0].changed(
            embedding=torch.cat([context.embedding for context in column if context.embedding is not None]),
            unconditional=column[0].unconditional
            if isinstance(column[0].unconditional, str)
            else torch.cat([context.unconditional for context in column if isinstance(context.unconditional, Tensor)]),
        )
        for column in zip(*rows, strict=True)
    )


def _generate(
    pipe: VersatileDiffusionPipeline, jobs: Mapping[int, JobRequest], on_step: OnStep
) -> dict[int, JobResult]:
    """One call of the pipeline for jobs that are encoded, with a row for each output."""
    steps = _Steps(pipe, jobs, on_step)
    made = pipe.run(joined([job.request for job in jobs.values()]), on_step=steps)
    if not made.origins:
        raise Stopped
    items = {origin.row: item for origin, item in zip(made.origins, made.items, strict=True)}
    computed = computed_by(pipe, next(iter(jobs.values())).model)
    remainders = tuple(RemainderRecord(step=one.step, rows=one.rows) for one in made.origins[0].remainders)
    scale = made.request.guidance_scale
    assert scale is not None  # the pipeline has resolved it
    return {
        number: JobResult(
            [items[row] for row in own],
            scale,
            computed=computed,
            batch=BatchRecord(num_outputs=made.origins[0].items, row=own[0], remainders=remainders),
        )
        for number, own in steps.rows.items()
        if own[0] in items
    }


class _Steps:
    """Tells of each step, and lets the rows of jobs go that nobody wants any more.

    Args:
        pipe: what computes the jobs.
        jobs: what is made, by its number.
        on_step: what is told.

    Attributes:
        rows: the rows of each job.
    """

    def __init__(self, pipe: VersatileDiffusionPipeline, jobs: Mapping[int, JobRequest], on_step: OnStep) -> None:
        ends = list(accumulate(job.request.num_outputs for job in jobs.values()))
        self.rows = dict(zip(jobs, map(range, [0, *ends], ends), strict=False))
        self._wanted = set(jobs)
        self._pipe, self._jobs, self._on_step = pipe, jobs, on_step

    def __call__(self, step: Step) -> StepChange:
        self._wanted &= set(self._on_step(step.number, step.total, self._previews(step)))
        return StepChange(rows=[row for number in self._wanted for row in self.rows[number]])

    def _previews(self, step: Step) -> dict[int, object]:
        """The first output of each job that goes on and asks for it now."""
        return {
            number: self._pipe.decode(job.request.to, step.latents[[self.rows[number][0]]])[0]
            for number, job in self._jobs.items()
            if number in self._wanted
            and job.preview_every
            and step.number % job.preview_every == 0
            and step.number < step.total
        }


@contextmanager
def _noted() -> Generator[list[str]]:
    """What the pipeline warns its users of. Libraries' warnings to programmers are left out."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield notes
        finally:
            notes += [str(warning.message) for warning in caught if warning.category is UserWarning]
