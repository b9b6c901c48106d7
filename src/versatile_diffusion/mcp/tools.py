"""The tools: what an agent may ask for, as fields of `GenerateIn`, which alone says what a request is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from versatile_diffusion.engine.requests import Edit, Words
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.serving.schemas import GenerateIn, OutputsIn, generate_model, with_decoding
from versatile_diffusion.serving.tasks import edit_of, variation_of
from versatile_diffusion.serving.uploads import Part
from versatile_diffusion.validation import Number

Picture = Annotated[
    str | Part,
    Field(description="An image block, base64, a data URL, or an address such as vd://jobs/… of what was made here."),
]
Share = Annotated[Number, Field(ge=0, le=1)]
Weight = Annotated[Number, Field(ge=0, le=1e6)]


class TaskArguments(OutputsIn):
    """Arguments of a tool for one task of the paper.

    Attributes:
        to: the modality that the task makes.
    """

    to: ClassVar[str]

    @abstractmethod
    def asked(self) -> Mapping[str, object]:
        """What the task makes it of, as fields of `GenerateIn`."""

    def request(self) -> GenerateIn:
        """The request that the arguments stand for. Raises ValidationError if it is not as expected."""
        common = OutputsIn.model_fields.keys() | modality_spec(self.to).decoding.model_fields.keys()
        given = {name: getattr(self, name) for name in common & self.model_fields_set}
        return generate_model().model_validate({"to": self.to, **given, **self.asked()})


class DescribeArguments(TaskArguments):
    """Says in words what a picture shows. Each output is another description."""

    to = TEXT.name
    image: Picture

    def asked(self) -> Mapping[str, object]:
        return {"contexts": [_seen(self.image)]}


class VaryArguments(TaskArguments):
    """Paints pictures like a picture."""

    to = IMAGE.name
    image: Picture
    fidelity: Annotated[
        Share, Field(description="How much of the layout is kept: 0 is free, 1 the picture itself.")
    ] = 0
    focus: Annotated[Share, Field(description="0 keeps what is shown, 1 keeps how it looks, 0.5 keeps both.")] = 0.5
    color_adjust: Annotated[bool, Field(description="Give the outputs the colours of the picture.")] = False

    def asked(self) -> Mapping[str, object]:
        seen = _seen(self.image, focus=self.focus)
        return variation_of(seen, fidelity=self.fidelity, color_adjust=self.color_adjust)


class EditArguments(Edit, TaskArguments):
    """Changes a picture by words: what it is to become (prompt), what is to go (remove), what is to come (add)."""

    to = IMAGE.name
    image: Picture

    def asked(self) -> Mapping[str, object]:
        changes = {name: getattr(self, name) for name in Edit.model_fields}
        return edit_of(_seen(self.image), changes, strength=self.strength)


class MixArguments(TaskArguments):
    """Paints pictures of several texts and pictures at once, each with its share."""

    to = IMAGE.name
    texts: Annotated[tuple[Words, ...], Field(description="Words to paint.")] = ()
    images: Annotated[tuple[Picture, ...], Field(description="Pictures to paint from.")] = ()
    weights: Annotated[
        tuple[Weight, ...] | None,
        Field(description="Shares of the texts, then of the images, in their order; equal if left out."),
    ] = None

    @model_validator(mode="after")
    def _has_shares(self) -> Self:
        count = len(self.texts) + len(self.images)
        if not count:
            raise ValueError("There is nothing to mix: give texts, images or both.")
        if self.weights is not None and len(self.weights) != count:
            raise ValueError(f"There are {count} texts and images, but {len(self.weights)} weights: give one for each.")
        return self

    def asked(self) -> Mapping[str, object]:
        things = [*(_told(text) for text in self.texts), *map(_seen, self.images)]
        weights = self.weights or [1.0] * len(things)
        return {"contexts": [{**thing, "weight": weight} for thing, weight in zip(things, weights, strict=True)]}


@dataclass(frozen=True)
class EngineTool:
    """A tool.

    Attributes:
        name: by which agents call it.
        title: for people.
        description: when to call it, and what comes of it.
        model: its arguments, with the options of all modalities that are known by now.
        without: fields of the model that mean nothing here.
    """

    name: str
    title: str
    description: str
    model: Callable[[], type[TaskArguments] | type[GenerateIn]]
    without: Sequence[str] = ()

    @property
    def schema(self) -> dict[str, Any]:
        """Its arguments as JSON Schema."""
        schema = self.model().model_json_schema()
        for name in self.without:
            del schema["properties"][name]
        if "Part" in schema.get("$defs", {}):
            schema["$defs"]["Part"] = _IMAGE_BLOCK
        return schema

    def read(self, arguments: Mapping[str, object]) -> GenerateIn:
        """The request that arguments ask for. Raises ValidationError if they are not as expected."""
        asked = self.model().model_validate(arguments)
        return asked if isinstance(asked, GenerateIn) else asked.request()


_IMAGE_BLOCK = {
    "type": "object",
    "title": "Content",
    "description": "A content block that holds a picture or a sound, as in the results of tools.",
    "properties": {
        "type": {"type": "string"},
        "data": {"type": "string", "contentEncoding": "base64"},
        "mimeType": {"type": "string"},
    },
    "required": ["type", "data", "mimeType"],
}


def _task(name: str, title: str, arguments: type[TaskArguments]) -> EngineTool:
    """A tool of one task, whose options of decoding are those of what it makes."""
    return EngineTool(name, title, arguments.__doc__ or "", lambda: with_decoding(arguments, (arguments.to,)))


def _seen(image: str | Part, **options: float) -> dict[str, object]:
    return {"modality": IMAGE.name, "data": image, **options}


def _told(text: str) -> dict[str, object]:
    return {"modality": TEXT.name, "data": text}


TOOLS = (
    EngineTool(
        "generate",
        "Generate",
        'Makes outputs of any modality from any number of weighted contexts: {"to": "image", "contexts": ["a red '
        'lighthouse by the sea"]} paints a picture of words. A context is words, or an object with its modality and '
        "data; pictures are given as in the other tools.",
        generate_model,
        without=("wait", "preview_every"),
    ),
    _task("describe", "Describe a picture", DescribeArguments),
    _task("vary", "Vary a picture", VaryArguments),
    _task("edit", "Edit a picture", EditArguments),
    _task("mix", "Mix words and pictures", MixArguments),
)
