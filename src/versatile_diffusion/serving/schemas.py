"""The JSON that clients send and get, and how it becomes requests of the engine."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from versatile_diffusion.context import Context
from versatile_diffusion.engine.jobs import Job, State, Status
from versatile_diffusion.engine.requests import Edit, Made, Replayable, Request
from versatile_diffusion.provenance import png
from versatile_diffusion.provenance.record import CHUNK
from versatile_diffusion.sampling.options import SchedulerName
from versatile_diffusion.serving.uploads import Part, Refused, Uploads

Modality = Literal["image", "text"]
Size = Annotated[int, Field(ge=1, le=65536)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Strict(BaseModel):
    """What clients send: a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


Binary = Annotated[str | Part, Field(description="Base64, or a file of a multipart request.")]
Embedding = Annotated[
    list[list[float]] | Binary,
    Field(description="Context tokens: nested lists (tokens, width), or safetensors of one tensor."),
]


class ContextIn(Strict):
    """One condition: see `Context`."""

    modality: Modality
    data: Annotated[Binary | None, Field(description="A text as it is; a picture as base64 or as a file.")] = None
    embedding: Embedding | None = None
    weight: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    mask: Annotated[Binary | None, Field(description="A picture; what is white is seen.")] = None
    focus: Annotated[float, Field(ge=0, le=1, description="0 keeps semantics, 1 keeps style.")] = 0.5
    unconditional: Annotated[
        Literal["default", "zeros"] | Embedding, Field(description="What guidance moves away from.")
    ] = "default"

    def read(self, uploads: Uploads) -> Context:
        """The condition, with its data decoded. Raises ValueError if that cannot be."""
        named = self.unconditional in ("default", "zeros")
        return Context(
            self.modality,
            None if self.data is None else _data(self.modality, self.data, uploads),
            embedding=None if self.embedding is None else uploads.tensor(self.embedding),
            weight=self.weight,
            mask=None if self.mask is None else uploads.picture(self.mask),
            focus=self.focus,
            unconditional=self.unconditional if named else uploads.tensor(self.unconditional),  # pyright: ignore
        )


Words = Annotated[str, Field(max_length=2000)]


class EditIn(Strict):
    """What is to become of the picture that is the only context: see `VersatileDiffusionPipeline.edit`."""

    prompt: Annotated[Words, Field(description="What it is to become, or an instruction.")] = ""
    remove: Annotated[Words, Field(description="What is to go.")] = ""
    add: Annotated[Words, Field(description="What is to come.")] = ""
    text_share: Annotated[float, Field(gt=0, le=1, description="Weight of the words; the picture has the rest.")] = 0.8

    def read(self) -> Edit:
        """The change. Raises ValueError if it says nothing."""
        if not any(words.strip() for words in (self.prompt, self.remove, self.add)):
            raise Refused("Nothing to change: say what with prompt, remove or add.")
        return Edit(**self.model_dump())


EXAMPLE = {
    "to": "image",
    "contexts": [{"modality": "text", "data": "a watercolor of a red lighthouse by the sea"}],
    "num_outputs": 2,
    "seed": 7,
    "wait": True,
}


class GenerateIn(Strict):
    """What to make: the arguments of `VersatileDiffusionPipeline.generate`."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    to: Modality
    contexts: Annotated[list[ContextIn], Field(min_length=1, max_length=64)]
    model: Annotated[str | None, Field(description="One of /v1/models; the first if left out.")] = None
    num_outputs: Annotated[int, Field(ge=1, le=1024)] = 1
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    guidance_scale: Annotated[float | None, Field(ge=-1000, le=1000, description="1 is no guidance.")] = None
    guidance_interval: tuple[float, float] | None = None
    negative: Annotated[list[ContextIn], Field(max_length=64)] = []
    start: Annotated[Binary | None, Field(description="A text as it is; a picture as base64 or as a file.")] = None
    strength: Annotated[float, Field(ge=0, le=1, description="1 forgets the start, 0 keeps it.")] = 1.0
    height: Size | None = None
    width: Size | None = None
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    seed: Annotated[Seed | None, Field(description="Of the first output; the next has the next.")] = None
    scheduler: SchedulerName | None = None
    colors_of: Annotated[Binary | None, Field(description="For pictures: a picture whose colours they take.")] = None
    edit: Annotated[EditIn | None, Field(description="For pictures: changes the picture that is the context.")] = None
    temperature: Annotated[float | None, Field(ge=0, le=100, description="For texts.")] = None
    max_tokens: Annotated[int | None, Field(ge=1, le=1024, description="For texts.")] = None
    top_k: Annotated[int | None, Field(ge=1, le=10**6, description="For texts.")] = None
    top_p: Annotated[float | None, Field(gt=0, le=1, description="For texts.")] = None
    preview_every: Annotated[int, Field(ge=0, le=1000, description="For pictures; steps, 0 is never.")] = 0
    wait: Annotated[bool, Field(description="Answer with the result, not with the job.")] = False

    def read(self, uploads: Uploads, default_model: str) -> Request:
        """The request, with its data decoded. Raises ValueError if that cannot be."""
        if self.preview_every and self.to != "image":
            raise Refused("Previews are pictures: leave preview_every out where texts are made.")
        writing = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        writing |= {"top_k": self.top_k, "top_p": self.top_p}
        return Request(
            self.model or default_model,
            self.to,
            tuple(context.read(uploads) for context in self.contexts),
            consecutive(self.seed, self.num_outputs),
            negative=tuple(context.read(uploads) for context in self.negative),
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            guidance_interval=self.guidance_interval,
            start=None if self.start is None else _data(self.to, self.start, uploads),
            strength=self.strength,
            height=self.height,
            width=self.width,
            eta=self.eta,
            scheduler=self.scheduler,
            colors_of=None if self.colors_of is None else uploads.picture(self.colors_of),
            edit=None if self.edit is None else self.edit.read(),
            decoding={name: value for name, value in writing.items() if value is not None},
            preview_every=self.preview_every,
        )


class OutputOut(BaseModel):
    """One output."""

    seed: int
    text: str | None = None
    image: Annotated[str | None, Field(description="A PNG, in base64, that holds its recipe as text chunks.")] = None
    request: Annotated[
        dict[str, Any] | None,
        Field(description="For texts: the recipe, which `vd replay` reads; a picture holds its own."),
    ] = None


class ErrorOut(BaseModel):
    """What went wrong, in the words and the form of OpenAI's interface."""

    message: str
    type: str
    code: str | None = None
    param: str | None = None


class Problem(BaseModel):
    """The answer where something went wrong."""

    error: ErrorOut


class JobOut(BaseModel):
    """A request on its way."""

    id: str
    status: Status
    model: str
    to: str
    created: float
    queue_position: Annotated[int, Field(description="1 is next; 0 if it waits no more.")] = 0
    step: int = 0
    steps: Annotated[int, Field(description="In all; 0 while that is not known.")] = 0
    preview: Annotated[str | None, Field(description="A PNG in base64.")] = None
    outputs: list[OutputOut] = []
    notes: list[str] = []
    error: ErrorOut | None = None

    @classmethod
    def of(cls, job: Job, state: State, position: int) -> JobOut:
        """A job as its client sees it."""
        failure = state.failure
        return cls(
            id=job.id,
            status=state.status,
            model=job.request.model,
            to=job.request.to,
            created=job.created,
            queue_position=position,
            step=state.step,
            steps=state.steps,
            preview=_base64(png(state.preview)) if isinstance(state.preview, Image.Image) else None,
            outputs=[] if state.made is None else outputs(job.recipe, job.replayable, job.request.seeds, state.made),
            notes=list(state.made.notes) if state.made else [],
            error=None if failure is None else ErrorOut(message=failure.message, type=failure.reason),
        )


def outputs(recipe: Mapping[str, Any], replayable: Replayable, seeds: Sequence[int], made: Made) -> list[OutputOut]:
    """What a request gave, each output with its recipe: in words, and such that it can be made again."""
    words = {key: _chunk(value) for key, value in recipe.items()} | {"guidance_scale": _chunk(made.guidance_scale)}
    found: list[OutputOut] = []
    for seed, item, kept in zip(seeds, made.items, replayable.outputs(seeds, made), strict=True):
        request = kept.written(replayable.embedded)
        if isinstance(item, str):
            found.append(OutputOut(seed=seed, text=item, request=json.loads(request)))
        else:
            chunks = words | {"seed": str(seed), CHUNK: request}
            found.append(OutputOut(seed=seed, image=_base64(png(item, chunks))))
    return found


def consecutive(seed: int | None, count: int) -> tuple[int, ...]:
    """Seeds from the first one on; from a random one if there is none."""
    first = secrets.randbelow(2**31) if seed is None else seed
    return tuple((first + i) % 2**63 for i in range(count))


def _data(modality: str, given: str | Part, uploads: Uploads) -> Any:
    """A text as it is, or a picture decoded; a path among them is but a text, or no base64."""
    if modality != "text":
        return uploads.picture(given)
    if not isinstance(given, str):
        raise Refused("A text is given as it is, not as a file.")
    return given


def _chunk(value: Any) -> str:
    """An entry of a recipe as the text of a PNG: what is no text is JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
