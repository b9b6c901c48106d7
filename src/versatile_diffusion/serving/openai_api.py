"""Routes of OpenAI's interface, so that its clients work as they are. Images come as b64_json."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from PIL import Image

from versatile_diffusion.context import Context
from versatile_diffusion.engine.jobs import Job
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import JobResult
from versatile_diffusion.engine.workers import ModelInfo, find_model
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.pipeline.request import Request as PipelineRequest
from versatile_diffusion.serving.bodies import Body, body_of
from versatile_diffusion.serving.job_service import JobService
from versatile_diffusion.serving.jobs_api import Jobs, Owner
from versatile_diffusion.serving.openai_schemas import (
    EditsIn,
    ImageOptions,
    ImageOut,
    ImagesIn,
    ImagesOut,
    ModelOut,
    ModelsOut,
    OutputFormat,
    VariationsIn,
)
from versatile_diffusion.serving.problems import MADE_RESPONSES, RESPONSES
from versatile_diffusion.serving.schemas import consecutive, outputs
from versatile_diffusion.serving.uploads import Part, Refused, Uploads

router = APIRouter(prefix="/v1", tags=["OpenAI"])

MADE_AT = "X-Image-Made-At"
"""The header that says at which size the model painted the pictures of an answer."""
_QUALITY = 90

BODIES: tuple[type[ImageOptions], ...] = (ImagesIn, VariationsIn, EditsIn)
"""What the routes read by themselves, for the OpenAPI document."""


def _documented(model: type[ImageOptions], **files: dict[str, Any]) -> dict[str, Any]:
    """The body of a route in the OpenAPI document: JSON or a form, whose files are in binary."""
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    form = {"type": "object", "required": schema.get("required", []), "properties": schema["properties"] | files}
    content = {"application/json": {"schema": reference}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


_FILE = {"type": "string", "format": "binary"}
_FILES = {"type": "array", "items": _FILE}


@router.get("/models", responses=RESPONSES)
def models(jobs: Jobs) -> ModelsOut:
    """The models that can be asked for, the default first."""
    return ModelsOut(
        data=[
            ModelOut(
                id=name,
                outputs=list(info.outputs),
                contexts=list(info.contexts),
                guidance_scales=dict(info.guidance_scales),
                sizes={output: sizes.native for output, sizes in info.sizes.items()},
                largest_areas={output: sizes.largest_area for output, sizes in info.sizes.items()},
            )
            for name, info in jobs.engine.models.items()
        ]
    )


@router.post("/images/generations", responses=MADE_RESPONSES, openapi_extra=_documented(ImagesIn))
async def generations(request: Request, response: Response, jobs: Jobs, owner: Owner) -> ImagesOut:
    """Makes images of a text."""
    body = await body_of(request, jobs.limits.body)
    asked = body.read_as(ImagesIn)
    return await _made(request, response, jobs, owner, body, asked, lambda _: [Context(TEXT.name, asked.prompt)])


@router.post("/images/variations", responses=MADE_RESPONSES, openapi_extra=_documented(VariationsIn, image=_FILE))
async def variations(request: Request, response: Response, jobs: Jobs, owner: Owner) -> ImagesOut:
    """Makes images like an image."""
    body = await body_of(request, jobs.limits.body)
    asked = body.read_as(VariationsIn)
    return await _made(request, response, jobs, owner, body, asked, lambda uploads: [_seen(uploads, asked.image)])


@router.post(
    "/images/edits",
    responses=MADE_RESPONSES,
    openapi_extra=_documented(EditsIn, image=_FILES, images=_FILES, mask=_FILE),
)
async def edits(request: Request, response: Response, jobs: Jobs, owner: Owner) -> ImagesOut:
    """Makes images of a text and of images, of which the masked parts are left out."""
    body = await body_of(request, jobs.limits.body)
    asked = body.read_as(EditsIn)

    def contexts(uploads: Uploads) -> list[Context]:
        from versatile_diffusion.applications.editing import Method  # takes seconds, which the start need not wait for

        share, given = Method.REWRITE.text_share, [*asked.image, *asked.images]
        masks = [None if asked.mask is None else _opacity(uploads.item(IMAGE, asked.mask)), *[None] * len(given)]
        weight = (1 - share) / len(given)
        seen = [_seen(uploads, one, mask, weight) for one, mask in zip(given, masks, strict=False)]
        return [Context(TEXT.name, asked.prompt, weight=share), *seen]

    return await _made(request, response, jobs, owner, body, asked, contexts)


def _seen(uploads: Uploads, given: str | Part, mask: Image.Image | None = None, weight: float = 1.0) -> Context:
    return Context(IMAGE.name, uploads.item(IMAGE, given), mask=mask, weight=weight)


def _opacity(mask: object) -> Image.Image:
    """OpenAI's masks as ours: what is opaque is seen."""
    if not isinstance(mask, Image.Image) or mask.mode != "RGBA":
        raise Refused("The mask has no transparency: make it transparent where the picture may change.")
    return mask.getchannel("A")


async def _made(
    request: Request,
    response: Response,
    jobs: JobService,
    owner: str,
    body: Body,
    asked: ImageOptions,
    contexts: Callable[[Uploads], list[Context]],
) -> ImagesOut:
    """Waits for the images that were asked for, of contexts that are read from what was sent along."""

    def read(uploads: Uploads, models: Mapping[str, ModelInfo]) -> JobRequest:
        name, info = find_model(models, asked.model)
        info.require(name, IMAGE.name, ())
        count, options = asked.n or 1, dict(asked.sampling)
        if (wanted := asked.wanted_size) is not None:
            jobs.limits.check_answer(count, *wanted)
            options["height"], options["width"] = info.sizes[IMAGE.name].nearest(*wanted)
        seeds = consecutive(asked.seed, count)
        made = PipelineRequest.of(IMAGE.name, contexts(uploads), seeds=seeds, num_outputs=count, **options)
        return JobRequest(name, made)

    job = await jobs.submit(read, body.files, owner)
    result = await jobs.finished(job, request)
    answer = await jobs.resampled(lambda: _answer(job, result, asked))
    response.headers[MADE_AT] = answer.made_at or ""
    return answer


def _answer(job: Job, result: JobResult, asked: ImageOptions) -> ImagesOut:
    """The images in the size and the format that were asked for, which may not be those that the model paints."""
    painted = [item for item in result.items if isinstance(item, Image.Image)]
    made_at = painted[0].size
    height, width = asked.wanted_size or made_at[::-1]
    notes = list(result.notes)
    if (width, height) != made_at:
        painted = [one.resize((width, height), Image.Resampling.LANCZOS) for one in painted]
        notes.append(f"The model painted {_size(*made_at)} pixels, which were resampled to {_size(width, height)}.")
    kind = asked.output_format or OutputFormat.PNG
    if kind is OutputFormat.PNG:
        made = outputs(job.request.to, job.summary, job.record, job.request.seeds, replace(result, items=painted))
        files = [output.image or "" for output in made]
    else:
        files = [_file(one, kind, asked.output_compression) for one in painted]
    return ImagesOut(
        created=int(time.time()),
        data=[ImageOut(b64_json=file, seed=seed) for file, seed in zip(files, job.request.seeds, strict=True)],
        output_format=kind,
        size=_size(width, height),
        made_at=_size(*made_at),
        notes=notes,
    )


def _file(image: Image.Image, kind: OutputFormat, quality: int | None) -> str:
    """A picture in a format that holds no record of how it was made, in base64."""
    file = io.BytesIO()
    image.save(file, kind.value, quality=_QUALITY if quality is None else quality)
    return base64.b64encode(file.getvalue()).decode()


def _size(width: int, height: int) -> str:
    return f"{width}x{height}"
