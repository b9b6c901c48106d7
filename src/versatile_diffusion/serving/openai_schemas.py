"""What clients of OpenAI's image interface send and get, as it is, and with what is ours besides."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, Self, cast

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from versatile_diffusion.sampling.options import Sampling
from versatile_diffusion.serving.schemas import Count, GuidanceScale, Seed
from versatile_diffusion.serving.uploads import Binary
from versatile_diffusion.validation import Integer

_WRAPPERS = ("image_url", "url", "b64_json")
_LONGEST_SIDE = 5  # digits


class OutputFormat(StrEnum):
    """Files that pictures come in."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"


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


def _plain_size(given: object) -> object:
    """A size as OpenAI writes it, of one with a capital X, a × or spaces."""
    return re.sub(r"\s*[xX×*]\s*", "x", given.strip().lower()) if isinstance(given, str) else given


def _require_no_stream(stream: bool | None) -> bool | None:
    if stream:
        raise ValueError("Pictures come when they are finished, not as a stream: leave stream out.")
    return stream


Prompt = Annotated[str, Field(min_length=1, max_length=32_000, description="What to paint, in words.")]
Size = Annotated[
    str,
    BeforeValidator(_plain_size),
    Field(pattern=rf"^(auto|[1-9]\d{{0,{_LONGEST_SIDE - 1}}}x[1-9]\d{{0,{_LONGEST_SIDE - 1}}})$"),
]
Steps = Annotated[
    Integer | None,
    Field(
        ge=1,
        le=1000,
        validation_alias=AliasChoices("steps", "num_inference_steps"),
        description="Ours: steps of the whole schedule; 50, or those of the preset, if left out.",
    ),
]
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

    model: Annotated[str | None, Field(description="One of /v1/models; the first if left out.")] = None
    n: Annotated[Count | None, Field(description="How many pictures.")] = None
    size: Annotated[
        Size | None,
        Field(description="WIDTHxHEIGHT, such as 1024x1024, or auto; painted at the model's own size that is nearest."),
    ] = None
    response_format: Annotated[Literal["b64_json"] | None, Field(description="Addresses (url) are not offered.")] = None
    output_format: Annotated[OutputFormat | None, Field(description="The files of the pictures; png if left out.")] = (
        None
    )
    output_compression: Annotated[
        Integer | None, Field(ge=0, le=100, description="The quality of jpeg and webp; 100 is best.")
    ] = None
    stream: Annotated[bool | None, AfterValidator(_require_no_stream), Field(description="Only false.")] = None
    seed: Annotated[Seed | None, Field(description="Ours: of the first picture; the next has the next.")] = None
    num_inference_steps: Steps = None
    guidance_scale: GuidanceScale = None

    @model_validator(mode="before")
    @classmethod
    def _without_empty_fields(cls, given: object) -> object:
        """What forms send for fields that nobody filled in."""
        if not isinstance(given, Mapping):
            return given
        fields = cast("Mapping[str, object]", given)  # the keys of JSON and of forms are strings
        return {name: value for name, value in fields.items() if value != "" or name == "prompt"}

    @property
    def wanted_size(self) -> tuple[int, int] | None:
        """The height and the width that the size says, if it says any."""
        if self.size in (None, "auto"):
            return None
        width, height = map(int, self.size.split("x"))
        return height, width


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
    output_format: OutputFormat = OutputFormat.PNG
    size: Annotated[str | None, Field(description="WIDTHxHEIGHT of the pictures.")] = None
    made_at: Annotated[
        str | None,
        Field(description="Ours: WIDTHxHEIGHT at which the model painted them, before they were resampled."),
    ] = None
    notes: Annotated[list[str], Field(description="Ours: what the user should know.")] = []


class ModelOut(BaseModel):
    """A model."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "versatile-diffusion"
    outputs: list[str]
    contexts: list[str]
    guidance_scales: dict[str, float]
    sizes: Annotated[
        dict[str, int], Field(description="By output, the height and width in pixels that it was trained at.")
    ]
    largest_areas: Annotated[dict[str, int], Field(description="By output, the pixels that it makes well at most.")]


class ModelsOut(BaseModel):
    """All models, the default first."""

    object: Literal["list"] = "list"
    data: list[ModelOut]
