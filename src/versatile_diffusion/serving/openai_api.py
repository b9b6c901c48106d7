"""Routes of OpenAI's interface, so that its clients work as they are. Pictures come as b64_json."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from pydantic import BaseModel, ConfigDict, Field

from versatile_diffusion.context import Context
from versatile_diffusion.engine import requests
from versatile_diffusion.sampling.options import SchedulerName
from versatile_diffusion.serving.desk import Desk
from versatile_diffusion.serving.jobs_api import AtDesk, Owner
from versatile_diffusion.serving.problems import MADE_RESPONSES, RESPONSES
from versatile_diffusion.serving.schemas import Seed, consecutive
from versatile_diffusion.serving.uploads import Part, Refused, Uploads

router = APIRouter(prefix="/v1", tags=["OpenAI"])

Prompt = Annotated[str, Field(min_length=1, max_length=32_000)]
Count = Annotated[int, Field(ge=1, le=1024)]
Size = Annotated[str, Field(pattern=r"^(auto|[1-9]\d{0,4}x[1-9]\d{0,4})$", description="WIDTHxHEIGHT, or auto.")]
Format = Annotated[Literal["b64_json"], Field(description="Addresses (url) are not offered.")]
Steps = Annotated[int, Field(ge=1, le=1000)]


class ImagesIn(BaseModel):
    """What to make. What OpenAI's interface has besides this, such as quality, is ignored."""

    model_config = ConfigDict(allow_inf_nan=False)

    prompt: Prompt
    model: str | None = None
    n: Count | None = None
    size: Size | None = None
    response_format: Format | None = None
    output_format: Literal["png"] | None = None
    stream: Literal[False] | None = None
    seed: Annotated[Seed | None, Field(description="Ours: of the first picture; the next has the next.")] = None
    steps: Annotated[Steps, Field(description="Ours.")] = 50
    guidance_scale: Annotated[float | None, Field(ge=-1000, le=1000, description="Ours.")] = None
    scheduler: Annotated[SchedulerName | None, Field(description="Ours.")] = None


class ImageOut(BaseModel):
    """A picture."""

    b64_json: str
    seed: int


class ImagesOut(BaseModel):
    """Pictures."""

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


@router.get("/models", responses=RESPONSES)
def models(desk: AtDesk) -> ModelsOut:
    """The models that can be asked for, the default first."""
    return ModelsOut(
        data=[
            ModelOut(
                id=name,
                outputs=list(info.outputs),
                contexts=list(info.contexts),
                guidance_scales=dict(info.guidance_scales),
            )
            for name, info in desk.engine.models.items()
        ]
    )


@router.post("/images/generations", responses=MADE_RESPONSES)
async def generations(body: ImagesIn, request: Request, desk: AtDesk, owner: Owner) -> ImagesOut:
    """Pictures of a text."""

    def read(uploads: Uploads, default: str) -> requests.Request:
        return _request(body, default, Context("text", body.prompt))

    return await _made(desk, read, {}, owner, request)


def form_options(
    model: Annotated[str | None, Form()] = None,
    n: Annotated[Count | None, Form()] = None,
    size: Annotated[Size | None, Form()] = None,
    response_format: Annotated[Format | None, Form()] = None,
    seed: Annotated[Seed | None, Form()] = None,
    steps: Annotated[Steps, Form()] = 50,
) -> dict[str, Any]:
    """What forms say besides pictures and texts."""
    return {"model": model, "n": n, "size": size, "seed": seed, "steps": steps}


How = Annotated[dict[str, Any], Depends(form_options)]


@router.post("/images/variations", responses=MADE_RESPONSES)
async def variations(
    request: Request,
    desk: AtDesk,
    owner: Owner,
    how: How,
    image: Annotated[UploadFile, File(description="A picture.")],
) -> ImagesOut:
    """Pictures like a picture."""
    asked = ImagesIn(prompt="-", **how)
    content = await image.read()

    def read(uploads: Uploads, default: str) -> requests.Request:
        return _request(asked, default, Context("image", uploads.picture(Part(file="image"))))

    return await _made(desk, read, {"image": content}, owner, request)


@router.post("/images/edits", responses=MADE_RESPONSES)
async def edits(
    request: Request,
    desk: AtDesk,
    owner: Owner,
    how: How,
    prompt: Annotated[Prompt, Form()],
    image: Annotated[list[UploadFile] | None, File(description="A picture, or several.")] = None,
    images: Annotated[list[UploadFile] | None, File(alias="image[]", description="Another name of the same.")] = None,
    mask: Annotated[UploadFile | None, File(description="Transparent where the first picture may change.")] = None,
) -> ImagesOut:
    """Pictures of a text and of pictures, of which the masked parts are left out."""
    asked = ImagesIn(prompt=prompt, **how)
    parts = [*(image or []), *(images or [])]
    files = {str(i): await part.read() for i, part in enumerate(parts)}
    if mask is not None:
        files["mask"] = await mask.read()

    def read(uploads: Uploads, default: str) -> requests.Request:
        if not parts:
            raise Refused("There is no picture to edit: send one as the part 'image'.")
        from versatile_diffusion.applications.editing import (
            Method,  # takes seconds, which the start of the server need not
        )

        share = Method.REWRITE.text_share
        pictures = [uploads.picture(Part(file=str(i))) for i in range(len(parts))]
        seen = [_opacity(uploads.picture(Part(file="mask")))] if "mask" in files else []
        seen += [None] * (len(pictures) - len(seen))
        contexts = [
            Context("image", picture, mask=kept, weight=(1 - share) / len(pictures))
            for picture, kept in zip(pictures, seen, strict=True)
        ]
        return _request(asked, default, Context("text", prompt, weight=share), *contexts)

    return await _made(desk, read, files, owner, request)


def _opacity(mask: Any) -> Any:
    """OpenAI's masks as ours: what is opaque is seen."""
    if mask.mode != "RGBA":
        raise Refused("The mask has no transparency: make it transparent where the picture may change.")
    return mask.getchannel("A")


def _request(asked: ImagesIn, default: str, *contexts: Context) -> requests.Request:
    sizes = [int(side) for side in asked.size.split("x")] if asked.size not in (None, "auto") else [None, None]
    return requests.Request(
        asked.model or default,
        "image",
        contexts,
        consecutive(asked.seed, asked.n or 1),
        num_inference_steps=asked.steps,
        guidance_scale=asked.guidance_scale,
        scheduler=asked.scheduler,
        width=sizes[0],
        height=sizes[1],
    )


async def _made(desk: Desk, read: Any, files: dict[str, bytes], owner: str, request: Request) -> ImagesOut:
    job = await desk.submit(read, files, owner)
    made = await desk.result(job, request)
    pictures = [ImageOut(b64_json=output.image or "", seed=output.seed) for output in made.outputs]
    return ImagesOut(created=int(time.time()), data=pictures)
