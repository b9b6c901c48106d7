"""Requests and answers without jobs, for frameworks that queue and spread requests by themselves."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
from versatile_diffusion.engine.computing import OnStep, compute
from versatile_diffusion.engine.records import JobRecord
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import Failure, JobResult
from versatile_diffusion.engine.workers import ModelInfo, UnknownModel
from versatile_diffusion.serving.limits import Limits
from versatile_diffusion.serving.schemas import generate_model, outputs
from versatile_diffusion.serving.uploads import Uploads
from versatile_diffusion.serving.words import in_words


def read(pipe: VersatileDiffusionPipeline, body: object, model: str, limits: Limits = Limits()) -> JobRequest:
    """The request of a body of `POST /v1/generate`.

    Args:
        pipe: what is to compute the request.
        body: the parsed JSON.
        model: the name of the model that is open; a body names it, or none.
        limits: how much a request may ask for.

    Raises:
        ValueError: if it is not as expected, asks for another model, or for too much; the message is for the client.
    """
    info, schema = ModelInfo.of(pipe), generate_model()
    try:
        request = schema.model_validate(body).read(Uploads({}, limits.input_pixels), {model: info})
    except ValidationError as error:
        raise ValueError(in_words(error, schema)) from error
    except UnknownModel as error:
        raise ValueError(f"{str(error).removesuffix('.')}, or leave it out.") from error
    limits.check(request, info)
    return request


def answers(pipe: VersatileDiffusionPipeline, requests: Sequence[JobRequest]) -> list[dict[str, Any]]:
    """What requests of any kinds gave, as JSON can hold it: outputs and notes, or an error, and the process's number.

    Those of one kind are computed together. Where that fails, they are computed one by one.
    """
    kinds: dict[Hashable, list[int]] = {}
    for number, request in enumerate(requests):
        kinds.setdefault(request.kind, []).append(number)
    found: dict[int, JobResult | Failure] = {}
    for numbers in kinds.values():
        found |= zip(numbers, _computed(pipe, [requests[number] for number in numbers]), strict=True)
    return [_answer(request, found[number]) | {"worker": os.getpid()} for number, request in enumerate(requests)]


def _computed(pipe: VersatileDiffusionPipeline, requests: Sequence[JobRequest]) -> list[JobResult | Failure]:
    try:
        results = compute(pipe, requests, _all_go_on(len(requests)))
        return [result for result in results if result is not None]  # all of them, since all go on
    except Exception as error:
        if len(requests) == 1:
            return [Failure.of(error)]
        return [result for request in requests for result in _computed(pipe, [request])]


def _all_go_on(count: int) -> OnStep:
    def on_step(step: int, steps: int, previews: Mapping[int, object]) -> range:
        return range(count)

    return on_step


def _answer(request: JobRequest, result: JobResult | Failure) -> dict[str, Any]:
    if isinstance(result, Failure):
        return {"error": {"message": result.message, "type": result.reason.value}}
    made = outputs(request.to, request.summary, JobRecord.of(request), request.seeds, result)
    return {"outputs": [output.model_dump() for output in made], "notes": list(result.notes)}
