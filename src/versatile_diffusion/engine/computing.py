"""Requests computed by a pipeline, those of one kind as one batch. An output depends on its seed, not on its batch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor

from versatile_diffusion.applications.editing import Method, edited
from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
from versatile_diffusion.context import Context
from versatile_diffusion.engine.requests import Failure, Made, Request
from versatile_diffusion.modalities.base import Modality
from versatile_diffusion.pipeline.conditioning import read_items
from versatile_diffusion.pipeline.initial_latents import encode_start
from versatile_diffusion.pipeline.request import Request as PipelineRequest
from versatile_diffusion.provenance.record import Batch, Remainder
from versatile_diffusion.provenance.replay import computed_by
from versatile_diffusion.sampling.sampler import Step, StepChange

OnStep = Callable[[int, int, Mapping[int, Any]], Collection[int]]
"""(steps taken, steps in all, previews by the number of their request) -> numbers of the requests that go on."""

log = logging.getLogger(__name__)


class Stopped(Exception):
    """Nobody wants the outputs any more."""


@torch.no_grad()
def compute(
    pipe: VersatileDiffusionPipeline, requests: Sequence[Request], on_step: OnStep
) -> list[Made | Failure | None]:
    """Computes requests of one kind.

    Args:
        pipe: their model.
        requests: what to make.
        on_step: called after each step.

    Returns:
        What each request gave: None if it did not go on. One whose data cannot be read fails alone.

    Raises:
        Stopped: if none goes on.
        Exception: whatever the pipeline raises for the batch.
    """
    results: dict[int, Made | Failure] = {}
    ready: dict[int, Request] = {}
    notes: dict[int, list[str]] = {}
    written: dict[int, str] = {}
    for number, request in enumerate(requests):
        with _noted() as notes[number]:
            try:
                one = rewritten(pipe, request)
                if one is not request:
                    written[number] = str(one.contexts[0].data)
                    notes[number].append(f"Painted from the words “{written[number]}”.")
                ready[number] = encoded(pipe, one)
            except Exception as error:
                log.info("A request could not be read", exc_info=error)
                results[number] = Failure.of(error)
    if ready:
        with _noted() as common:
            made = _generate(pipe, ready, on_step)
        for number, one in made.items():
            told = tuple(dict.fromkeys([*notes[number], *common]))
            results[number] = replace(one, notes=told, written=written.get(number))
    return [results.get(number) for number in range(len(requests))]


def rewritten(pipe: VersatileDiffusionPipeline, request: Request) -> Request:
    """An edit as what it is painted from: the rewritten description, and the picture. Other requests as they are.

    Raises:
        TypeError, ValueError: if the picture cannot be read, or the model cannot describe it.
    """
    if request.edit is None:
        return request
    (seen,) = request.contexts
    images = read_items(pipe.modality(seen.modality), [seen.data])
    text, picture = edited(pipe, images, method=Method.REWRITE, **vars(request.edit))
    contexts = (text.changed(data=cast(list[str], text.data)[0]), seen.changed(weight=picture.weight))
    return replace(request, contexts=contexts, edit=None)


def encoded(pipe: VersatileDiffusionPipeline, request: Request) -> Request:
    """The request with its data as embeddings and latents, which is all that differs within a batch.

    Raises:
        TypeError, ValueError: if data cannot be read.
    """
    start = request.start
    if start is not None and request.to in pipe.modalities:
        start = encode_start(cast(Modality, pipe.modalities[request.to]), start, request.height, request.width)
    return replace(
        request,
        contexts=tuple(_embedded(pipe, context) for context in request.contexts if context.weight > 0),
        negative=tuple(_embedded(pipe, context) for context in request.negative if context.weight > 0),
        start=start,
    )


def _embedded(pipe: VersatileDiffusionPipeline, context: Context) -> Context:
    if context.embedding is not None:
        return context
    tokens = pipe.encode_context(context.modality, context.data, mask=context.mask)
    if len(tokens) != 1:
        raise ValueError(f"A context of a request holds one item, got {len(tokens)}.")
    return context.changed(data=None, mask=None, embedding=tokens)


def _generate(pipe: VersatileDiffusionPipeline, requests: Mapping[int, Request], on_step: OnStep) -> dict[int, Made]:
    """One call of the pipeline for requests that are encoded, with a row for each output."""
    rows = [request for request in requests.values() for _ in request.seeds]
    first = rows[0]
    steps = _Steps(pipe, requests, on_step)
    made = pipe.run(
        PipelineRequest.of(
            first.to,
            _joined([row.contexts for row in rows]),
            negative=_joined([row.negative for row in rows]),
            num_inference_steps=first.num_inference_steps,
            guidance_scale=first.guidance_scale,
            guidance_rescale=first.guidance_rescale,
            guidance_interval=first.guidance_interval,
            start=None if first.start is None else torch.cat([row.start for row in rows]),
            strength=first.strength,
            height=first.height,
            width=first.width,
            eta=first.eta,
            scheduler=first.scheduler,
            seeds=tuple(seed for request in requests.values() for seed in request.seeds),
            decoding=_decoding(rows),
        ),
        on_step=steps,
    )
    if not made.origins:
        raise Stopped
    items = {origin.row: item for origin, item in zip(made.origins, made.items, strict=True)}
    computed, remainders = computed_by(pipe, first.model), made.origins[0].remainders
    return {
        number: Made(
            [items[row] for row in own],
            cast(float, made.request.guidance_scale),
            computed=computed,
            batch=Batch(
                num_outputs=len(rows),
                row=own[0],
                remainders=tuple(Remainder(step=one.step, rows=one.rows) for one in remainders),
            ),
        )
        for number, own in steps.rows.items()
        if own[0] in items
    }


class _Steps:
    """Tells of each step, and lets the rows of requests go that nobody wants any more.

    Args:
        pipe: that computes them.
        requests: by their numbers.
        on_step: is told.

    Attributes:
        rows: of each request.
    """

    def __init__(self, pipe: VersatileDiffusionPipeline, requests: Mapping[int, Request], on_step: OnStep) -> None:
        ends = list(accumulate(len(request.seeds) for request in requests.values()))
        self.rows = dict(zip(requests, map(range, [0, *ends], ends), strict=False))
        self._wanted = set(requests)
        self._pipe, self._requests, self._on_step = pipe, requests, on_step

    def __call__(self, step: Step) -> StepChange:
        self._wanted &= set(self._on_step(step.number, step.total, self._previews(step)))
        return StepChange(rows=[row for number in self._wanted for row in self.rows[number]])

    def _previews(self, step: Step) -> dict[int, Any]:
        """The first output of each request that goes on and asks for it now."""
        return {
            number: self._pipe.decode(request.to, step.latents[[self.rows[number][0]]])[0]
            for number, request in self._requests.items()
            if number in self._wanted
            and request.preview_every
            and step.number % request.preview_every == 0
            and step.number < step.total
        }


def _decoding(rows: Sequence[Request]) -> dict[str, Any]:
    """Options of `decode` for rows of one kind."""
    colors = [row.colors_of for row in rows]
    return {**rows[0].decoding} | ({} if colors[0] is None else {"colors_of": colors})


def _joined(rows: Sequence[Sequence[Context]]) -> list[Context]:
    """Contexts of all rows, one for each place, whose embeddings have a row for each row."""
    return [
        column[0].changed(
            embedding=torch.cat([context.embedding for context in column if context.embedding is not None]),
            unconditional=column[0].unconditional
            if isinstance(column[0].unconditional, str)
            else torch.cat([context.unconditional for context in column if isinstance(context.unconditional, Tensor)]),
        )
        for column in zip(*rows, strict=True)
    ]


@contextmanager
def _noted() -> Iterator[list[str]]:
    """What the pipeline warns its users of. Libraries' warnings to programmers are left out."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield notes
        finally:
            notes += [str(warning.message) for warning in caught if warning.category is UserWarning]
