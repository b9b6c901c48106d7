"""The JSON that clients send and get, and how it becomes requests of the engine."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Annotated, Any, TypeAlias, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, create_model, field_validator

from versatile_diffusion.context import Context, ContextOf
from versatile_diffusion.engine.jobs import Job, JobState, Status
from versatile_diffusion.engine.records import JobRecord
from versatile_diffusion.engine.requests import Edit, JobRequest
from versatile_diffusion.engine.results import JobResult
from versatile_diffusion.engine.workers import ModelInfo, find_model
from versatile_diffusion.fields import data_fields
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.registry import modality_names, modality_spec
from versatile_diffusion.modalities.spec import ModalitySpec, ShownAs
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.pipeline.request import RequestOf
from versatile_diffusion.provenance.record import CHUNK
from versatile_diffusion.sampling.options import Sampling
from versatile_diffusion.serving.uploads import Binary, Embedding, Refused, Uploads
from versatile_diffusion.validation import Number

Seed = Annotated[int, Field(ge=0, lt=2**64)]
Count = Annotated[int, Field(ge=1, le=1024)]
GuidanceScale = Annotated[
    Number | None,
    Field(ge=-1000, le=1000, description="How closely to follow; 1 is no guidance. The model's own if left out."),
]


class ContextIn(ContextOf[Binary, Binary, Embedding]):
    """One condition: see `Context`."""

    def read(self, uploads: Uploads) -> Context:
        """The condition, with its data decoded. Raises ValueError if that cannot be."""
        modality, nothing = modality_spec(self.modality), self.unconditional
        return Context(
            self.modality,
            None if self.data is None else uploads.item(modality, self.data),
            embedding=None if self.embedding is None else uploads.embedding(self.embedding),
            weight=self.weight,
            mask=None if self.mask is None else uploads.item(IMAGE, self.mask),
            focus=self.focus,
            unconditional=nothing if nothing in ("default", "zeros") else uploads.embedding(nothing),
        )


class EditIn(Edit):
    """What is to become of the picture that is the only context: see `VersatileDiffusionPipeline.edit`."""


EXAMPLE: dict[str, JsonValue] = {
    "to": IMAGE.name,
    "contexts": [{"modality": TEXT.name, "data": "a watercolor of a red lighthouse by the sea"}],
    "num_outputs": 2,
    "seed": 7,
    "wait": True,
}


class OutputsIn(Sampling):
    """How many outputs, by which model, and how they are sampled: what all tasks have in common."""

    model: Annotated[str | None, Field(description="One of /v1/models; the first if left out.")] = None
    num_outputs: Count = 1
    guidance_scale: GuidanceScale = None
    seed: Annotated[Seed | None, Field(description="Of the first output; the next has the next.")] = None


class GenerateIn(OutputsIn, RequestOf[ContextIn, Binary, Embedding]):
    """What to make: the arguments of `VersatileDiffusionPipeline.generate`."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    contexts: Annotated[tuple[ContextIn, ...], Field(min_length=1, max_length=64, description="What to condition on.")]
    edit: Annotated[EditIn | None, Field(description="For pictures: changes the picture that is the context.")] = None
    preview_every: Annotated[
        int, Field(ge=0, le=1000, description="Steps between previews, which texts do not have; 0 is never.")
    ] = 0
    wait: Annotated[bool, Field(description="Answer with the result, not with the job.")] = False

    @field_validator("contexts", "negative", mode="before")
    @classmethod
    def _several(cls, given: object) -> object:
        """A list of contexts; one alone is taken as a list of it, and words as a context of text."""
        if given is None:
            return []
        several = cast("list[object]", given) if isinstance(given, list) else [given]  # lists of JSON
        return [{"modality": TEXT.name, "data": one} if isinstance(one, str) else one for one in several]

    def read(self, uploads: Uploads, models: Mapping[str, ModelInfo]) -> JobRequest:
        """The request, with its data decoded.

        Args:
            uploads: what was sent along.
            models: the models that are there, the default first.

        Raises:
            UnknownModel: if the model is not there.
            ValueError: if the model cannot make that, or data cannot be decoded.
        """
        name, info = find_model(models, self.model)
        info.require(name, self.to, [context.modality for context in (*self.contexts, *self.negative)])
        made = modality_spec(self.to)
        if self.preview_every and made.codec.inline:
            raise Refused(f"A {self.to} has no previews: leave preview_every out.")
        return JobRequest.of(
            name,
            self.to,
            [context.read(uploads) for context in self.contexts],
            consecutive(self.seed, self.num_outputs),
            edit=self.edit,
            preview_every=self.preview_every,
            negative=[context.read(uploads) for context in self.negative],
            start=None if self.start is None else uploads.item(made, self.start),
            latents=None if self.latents is None else uploads.array(self.latents, "The noise to start from"),
            decoding=self._decoding(made, uploads),
            **dict(self.sampling),
        )

    def _decoding(self, made: ModalitySpec, uploads: Uploads) -> dict[str, object]:
        """The options of decoding that were given, with their data decoded."""
        names = self.model_fields_set - GenerateIn.model_fields.keys()
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        for name, modality in data_fields(made.decoding).items():
            if name in given:
                given[name] = uploads.item(modality_spec(modality), given[name])
        try:
            return made.decoding_options(given).given
        except TypeError as error:
            raise Refused(str(error)) from error


def generate_model() -> type[GenerateIn]:
    """`GenerateIn` with the options of decoding of all modalities that are known by now, each as a field."""
    return with_decoding(GenerateIn, modality_names())


_Upload: TypeAlias = Binary | None
M = TypeVar("M", bound=BaseModel)


@cache
def with_decoding(model: type[M], names: Sequence[str]) -> type[M]:
    """Returns a model with the options of decoding of these modalities, each as a field."""
    fields: dict[str, Any] = {}  # as create_model wants them
    for name in names:
        with suppress(ValueError):  # its package is damaged, and no model that is open can need it
            decoding, own = modality_spec(name).decoding, model.model_fields
            data = data_fields(decoding)
            for option, field in decoding.model_fields.items():
                if option in data:
                    fields[option] = (_Upload, Field(None, description=field.description))
                elif option in fields:  # of several modalities, of which each checks what it is given
                    fields[option] = (object, Field(None, description=field.description))
                elif option not in own:
                    fields[option] = (field.annotation, field)
    return create_model(model.__name__, __base__=model, __doc__=model.__doc__, **fields)


class OutputOut(BaseModel):
    """One output."""

    seed: int
    text: str | None = None
    image: Annotated[
        str | None, Field(description="Its file in base64. A PNG holds the record of how it was made as text chunks.")
    ] = None
    data: Annotated[str | None, Field(description="The file of what is neither text nor image, in base64.")] = None
    media_type: Annotated[str | None, Field(description="Of the text, the image or the data.")] = None
    request: Annotated[
        dict[str, Any] | None,
        Field(description="The record of how it was made, which `vd replay` reads, unless its file holds that."),
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
    preview: Annotated[str | None, Field(description="The file of a preview in base64, such as a PNG.")] = None
    preview_media_type: str | None = None
    outputs: list[OutputOut] = []
    notes: list[str] = []
    error: ErrorOut | None = None

    @classmethod
    def of(cls, job: Job, state: JobState, position: int) -> JobOut:
        """A job as its client sees it."""
        result, failure, to = state.result, state.failure, job.request.to
        codec = None if state.preview is None else modality_spec(to).codec
        return cls(
            id=job.id,
            status=state.status,
            model=job.request.model,
            to=to,
            created=job.created,
            queue_position=position,
            step=state.step,
            steps=state.steps,
            preview=None if codec is None else _base64(codec.encode(state.preview)),
            preview_media_type=None if codec is None else codec.media_type,
            outputs=[] if result is None else outputs(to, job.summary, job.record, job.request.seeds, result),
            notes=[] if result is None else list(result.notes),
            error=None if failure is None else ErrorOut(message=failure.message, type=failure.reason),
        )


def outputs(
    to: str, summary: Mapping[str, object], record: JobRecord, seeds: Sequence[int], result: JobResult
) -> list[OutputOut]:
    """What a job gave, each output with the record of how it was made.

    Args:
        to: the modality that was made.
        summary: how that was done, for people to read.
        record: the same, such that the outputs can be made again.
        seeds: one for each output.
        result: what the job gave.
    """
    codec = modality_spec(to).codec
    words = {key: _chunk(value) for key, value in summary.items()} | {"guidance_scale": _chunk(result.guidance_scale)}
    found: list[OutputOut] = []
    for seed, item, one in zip(seeds, result.items, record.outputs(seeds, result), strict=True):
        written = one.written(record.inputs)
        output = OutputOut(seed=seed, media_type=codec.media_type)
        if codec.keeps_record:
            content = codec.encode(item, words | {"seed": str(seed), CHUNK: written})
        else:
            content, output.request = codec.encode(item), json.loads(written)
        match codec.shown_as:
            case ShownAs.TEXT if isinstance(item, str):
                output.text = item
            case ShownAs.IMAGE:
                output.image = _base64(content)
            case _:
                output.data = _base64(content)
        found.append(output)
    return found


def consecutive(seed: int | None, count: int) -> tuple[int, ...]:
    """Seeds from the first one on; from a random one if there is none."""
    first = secrets.randbelow(2**31) if seed is None else seed
    return tuple((first + i) % 2**64 for i in range(count))


def _chunk(value: object) -> str:
    """An entry of a summary as the text of a PNG: what is no text is JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
