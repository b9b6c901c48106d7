"""Recipes: all that is needed to make one output again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from versatile_diffusion.sampling.options import SchedulerName

CHUNK = "request"
"""Text chunk of a PNG, and key of JSON, that holds a recipe."""

Checksum = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Decoding = Literal["colors_of", "temperature", "max_tokens", "top_k", "top_p"]
Modality = Literal["image", "text"]
Number = Annotated[float, Field(ge=-1e6, le=1e6)]
Count = Annotated[int, Field(ge=1, le=65536)]
Name = Annotated[str, Field(max_length=4096)]
Text = Annotated[str, Field(max_length=1_000_000)]

_KINDS = "texts are words, pictures are inputs"  # a string in a picture's place would be taken for a path


class Strict(BaseModel):
    """A part of a recipe. It comes from a file, so a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Input(Strict):
    """A picture, a mask or an array, named by what it holds."""

    sha256: Checksum
    shape: Annotated[tuple[int, ...], Field(max_length=8)]

    def __str__(self) -> str:
        return f"{' × '.join(map(str, self.shape))}, sha256 {self.sha256}"


class ContextRecipe(Strict):
    """One condition: see `Context`.

    Attributes:
        shared: whether all items of the batch had the same data, which was then encoded once.
    """

    modality: Modality
    data: Text | Input | None = None
    embedding: Input | None = None
    weight: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    mask: Input | None = None
    shared: bool = False
    focus: Annotated[float, Field(ge=0, le=1)] = 0.5
    unconditional: Literal["default", "zeros"] | Input = "default"

    @model_validator(mode="after")
    def _names_no_file(self) -> Self:
        if isinstance(self.data, Input if self.modality == "text" else str):
            raise ValueError(_KINDS)
        return self

    @property
    def inputs(self) -> Iterator[Input]:
        """What it was given besides words."""
        for value in (self.data, self.embedding, self.mask, self.unconditional):
            if isinstance(value, Input):
                yield value


class Remainder(Strict):
    """What went on of a batch after a step, where some of it was no longer wanted.

    Attributes:
        step: its number, from 1.
        rows: numbers of the outputs that went on.
    """

    step: Count
    rows: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=1024)]


class Batch(Strict):
    """What an output was made together with. Batches of other sizes round otherwise; what is in them does not matter.

    Attributes:
        items: of data.
        num_outputs: of each item.
        row: of this output.
        remainders: where the batch became smaller.
    """

    items: Annotated[int, Field(ge=1, le=1024)] = 1
    num_outputs: Annotated[int, Field(ge=1, le=1024)] = 1
    row: Annotated[int, Field(ge=0, lt=1024 * 1024)] = 0
    remainders: Annotated[tuple[Remainder, ...], Field(max_length=1024)] = ()

    @model_validator(mode="after")
    def _holds_the_output(self) -> Self:
        count = self.items * self.num_outputs
        for rows in (range(count), *(remainder.rows for remainder in self.remainders)):
            if self.row not in rows or max(rows) >= count:
                raise ValueError("the output is not of its batch")
        return self


class Computed(Strict):
    """What computed an output.

    Attributes:
        model: as the user named it; never opened unless the user says so again.
        loras: likewise.
        weights: how they were stored, if not in the dtype.
        device: its type.
        dtype: fp32, bf16 or fp16.
        version: of this package.
        torch: version of PyTorch.
    """

    model: Name
    loras: Annotated[tuple[Name, ...], Field(max_length=64)] = ()
    weights: Literal["int8"] | None = None
    device: Name = "cpu"
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    version: Name = ""
    torch: Name = ""


class Recipe(Strict):
    """All that is needed to make one output again: the arguments of `generate`, with inputs by their checksums.

    Attributes:
        start_shared: as `ContextRecipe.shared`.
    """

    format: Literal[1] = 1
    to: Modality
    contexts: Annotated[tuple[ContextRecipe, ...], Field(min_length=1, max_length=64)]
    negative: Annotated[tuple[ContextRecipe, ...], Field(max_length=64)] = ()
    seed: Annotated[int, Field(ge=0, lt=2**64)]
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)]
    guidance_scale: Number
    guidance_rescale: Annotated[float, Field(ge=0, le=1)] = 0.0
    guidance_interval: tuple[Number, Number] | None = None
    start: Text | Input | None = None
    start_shared: bool = False
    strength: Annotated[float, Field(ge=0, le=1)] = 1.0
    latents: Input | None = None
    height: Count | None = None
    width: Count | None = None
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    scheduler: SchedulerName | None = None
    decoding: dict[Decoding, int | float | Input] = {}
    batch: Batch = Batch()
    computed: Computed

    @model_validator(mode="after")
    def _names_no_file(self) -> Self:
        named = {name for name, value in self.decoding.items() if isinstance(value, Input)}
        if (self.to == "image" and isinstance(self.start, str)) or named != {"colors_of"} & self.decoding.keys():
            raise ValueError(_KINDS)
        return self

    @property
    def inputs(self) -> dict[str, Input]:
        """All that it was given besides words, by their checksums."""
        others = (self.start, self.latents, *self.decoding.values())
        found = [value for context in (*self.contexts, *self.negative) for value in context.inputs]
        found += [value for value in others if isinstance(value, Input)]
        return {value.sha256: value for value in found}
