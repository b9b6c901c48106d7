"""Routes of OpenAI's interface, so that its clients work as they are. Images come as b64_json."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self, cast

from fastapi import APIRouter, Request
from PIL import Image
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from versatile_diffusion.context import Context
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.workers import ModelInfo, find_model
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.pipeline.request import Request as PipelineRequest
from versatile_diffusion.sampling.options import Sampling
from versatile_diffusion.serving.bodies import Body, body_of
from versatile_diffusion.serving.job_service import JobService
from versatile_diffusion.serving.jobs_api import Jobs, Owner
from versatile_diffusion.serving.problems import MADE_RESPONSES, RESPONSES
from versatile_diffusion.serving.schemas import Count, GuidanceScale, Seed, consecutive
from versatile_diffusion.serving.uploads import Binary, Part, Refused, Uploads
from versatile_diffusion.validation import Integer

router = APIRouter(prefix="/v1", tags=["OpenAI"])

Prompt = Annotated[str, Field(min_length=1, max_length=32_000)]
Size = Annotated[str, Field(pattern=r"^(auto|[1-9]\d{0,4}x[1-9]\d{0,4})$", description="WIDTHxHEIGHT, or auto.")]
Format = Annotated[Literal["b64_json"], Field(description="Addresses (url) are not offered.")]
Steps = Annotated[
    Integer,
    Field(
        ge=1,
        le=1000,
        validation_alias=AliasChoices("steps", "num_inference_steps"),
        description="Ours: steps of the whole schedule.",
    ),
]


_WRAPPERS = ("image_url", "url", "b64_json")


def _binary(given: object) -> object:
    """Base64 or a file of a form, out of the objects and lists that clients wrap it in."""
    inner = _wrapped(given)
    return given if inner is None else _binary(inner)


def _wrapped(given: object) -> object:
    """What is in a list of one, or in an object such as {"image_url": …}; None if it is neither."""
    if isinstance(given, list):
        several = cast("list[object]", given)  # lists of JSON
        return several[0] if len(several) == 1 else None
    if isinstance(given, Mapping):
        wrapper = cast("Mapping[str, object]", given)  # the keys of JSON are strings
        return next((wrapper[name] for name in _WRAPPERS if wrapper.get(name) is not None), None)
    return None


def _binaries(given: object) -> object:
    """One or several as a list."""
    several = cast("list[object]", given) if isinstance(given, list) else [given]  # lists of JSON
    return list(map(_binary, several))


Given = Annotated[
    Binary, BeforeValidator(_binary), Field(description="A file of a form, base64, or a data URL; no other address.")
]
SeveralGiven = Annotated[
    tuple[Binary, ...],
    BeforeValidator(_binaries),
    Field(max_length=16, description="A picture, or several, each a file of a form, base64, or a data URL."),
]


class ImageOptions(Sampling):
    """How to make images. What OpenAI's interface has besides this, such as quality, is ignored."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    n: Count | None = None
    size: Size | None = None
    response_format: Format | None = None
    output_format: Literal["png"] | None = None
    stream: Literal[False] | None = None
    seed: Annotated[Seed | None, Field(description="Ours: of the first picture; the next has the next.")] = None
    num_inference_steps: Steps = 50
    guidance_scale: GuidanceScale = None

    @property
    def sides(self) -> dict[str, int]:
        """The height and the width that the size says, if it says any."""
        if self.size in (None, "auto"):
            return {}
        width, height = map(int, self.size.split("x"))
        return {"height": height, "width": width}


class ImagesIn(ImageOptions):
    """Images of a text."""

    prompt: Prompt


class VariationsIn(ImageOptions):
    """Images like an image."""

    image: Given


class EditsIn(ImageOptions):
    """Images of a text and of images, of which the masked parts are left out."""

    prompt: Prompt
    image: SeveralGiven = ()
    images: Annotated[SeveralGiven, Field(description="Another name of the same.")] = ()
    mask: Annotated[Given | None, Field(description="Transparent where the first picture may change.")] = None

    @model_validator(mode="after")
    def _shows_something(self) -> Self:
        if not self.image and not self.images:
            raise ValueError("There is no picture to edit: send one as 'image'.")
        return self


class ImageOut(BaseModel):
    """An image."""

    b64_json: str
    seed: int


class ImagesOut(BaseModel):
    """Images."""

    created: int
    data: list[ImageOut]
    output_format: Literal["png"] = "png"


class ModelOut(BaseModel):
    """A model."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "versatile-diffusion"
    outputs: list[str]
    contexts: list[str]
    guidance_scales: dict[str, float]


class ModelsOut(BaseModel):
    """All models, the default first."""

    object: Literal["list"] = "list"
    data: list[ModelOut]


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
            )
            for name, info in jobs.engine.models.items()
        ]
    )


@router.post("/images/generations", responses=MADE_RESPONSES, openapi_extra=_documented(ImagesIn))
async def generations(request: Request, jobs: Jobs, owner: Owner) -> ImagesOut:
    """Makes images of a text."""
    body = await body_of(request, jobs.limits.body)
    asked = body.read_as(ImagesIn)
    return await _made(request, jobs, owner, body, asked, lambda _: [Context(TEXT.name, asked.prompt)])


@router.post("/images/variations", responses=MADE_RESPONSES, openapi_extra=_documented(VariationsIn, image=_FILE))
async def variations(request: Request, jobs: Jobs, owner: Owner) -> ImagesOut:
    """Makes images like an image."""
    body = await body_of(request, jobs.limits.body)
    asked = body.read_as(VariationsIn)
    return await _made(request, jobs, owner, body, asked, lambda uploads: [_seen(uploads, asked.image)])


@router.post(
    "/images/edits",
    responses=MADE_RESPONSES,
    openapi_extra=_documented(EditsIn, image=_FILES, images=_FILES, mask=_FILE),
)
async def edits(request: Request, jobs: Jobs, owner: Owner) -> ImagesOut:
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

    return await _made(request, jobs, owner, body, asked, contexts)


def _seen(uploads: Uploads, given: str | Part, mask: Image.Image | None = None, weight: float = 1.0) -> Context:
    return Context(IMAGE.name, uploads.item(IMAGE, given), mask=mask, weight=weight)


def _opacity(mask: object) -> Image.Image:
    """OpenAI's masks as ours: what is opaque is seen."""
    if not isinstance(mask, Image.Image) or mask.mode != "RGBA":
        raise Refused("The mask has no transparency: make it transparent where the picture may change.")
    return mask.getchannel("A")


async def _made(
    request: Request,
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
        count, options = asked.n or 1, dict(asked.sampling) | asked.sides
        seeds = consecutive(asked.seed, count)
        made = PipelineRequest.of(IMAGE.name, contexts(uploads), seeds=seeds, num_outputs=count, **options)
        return JobRequest(name, made)

    job = await jobs.submit(read, body.files, owner)
    made = await jobs.result(job, request)
    images = [ImageOut(b64_json=output.image or "", seed=output.seed) for output in made.outputs]
    return ImagesOut(created=int(time.time()), data=images)
