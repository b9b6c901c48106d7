# pyright: strict
"""Options of `vd serve` that say how much may be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer

from versatile_diffusion.engine.limits import EngineLimits
from versatile_diffusion.serving.limits import Limits

_queue = partial(typer.Option, rich_help_panel="The queue")
_request = partial(typer.Option, min=1, rich_help_panel="At most")


@dataclass(frozen=True)
class QueueOptions(EngineLimits):
    """How much is computed and kept, and for how long."""

    queue: Annotated[int, _queue(min=1, help="Jobs that may wait.")] = EngineLimits.queue
    batch: Annotated[int, _queue(min=1, help="Outputs that are computed at once.")] = EngineLimits.batch
    timeout: Annotated[float, _queue(min=0.1, help="Seconds that a job may be computed for.")] = EngineLimits.timeout
    keep_jobs: Annotated[int, _queue(min=1, help="Finished jobs that are kept.")] = EngineLimits.keep_jobs
    keep_bytes: Annotated[int, _queue(min=0, help="Bytes that these may hold.")] = EngineLimits.keep_bytes
    keep_seconds: Annotated[float, _queue(min=0, help="For how long.")] = EngineLimits.keep_seconds


@dataclass(frozen=True)
class RequestOptions(Limits):
    """How much a request, and a key, may ask for."""

    outputs: Annotated[int, _request(help="Outputs of a request.")] = Limits.outputs
    steps: Annotated[int, _request(help="Steps of the sampler.")] = Limits.steps
    pixels: Annotated[int | None, _request(help="Pixels of an output.", show_default="what its model makes well")] = (
        Limits.pixels
    )
    contexts: Annotated[int, _request(help="Contexts of a request, negative ones included.")] = Limits.contexts
    characters: Annotated[int, _request(help="Characters of a text.")] = Limits.characters
    input_pixels: Annotated[int, _request(help="Pixels of all pictures of a request.")] = Limits.input_pixels
    answer_pixels: Annotated[int, _request(help="Pixels of all pictures of an enlarged answer.")] = Limits.answer_pixels
    body: Annotated[int, _request(help="Bytes of a request.")] = Limits.body
    rate: Annotated[int, _request(help="Requests of a key in a minute.")] = Limits.rate
    concurrency: Annotated[int, _request(help="Unfinished jobs of a key.")] = Limits.concurrency
