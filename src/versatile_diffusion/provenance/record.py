# pyright: strict
"""Records: all that is needed to make one output again, with its inputs by their checksums."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from versatile_diffusion._moved import former_names
from versatile_diffusion.context import ContextOf
from versatile_diffusion.fields import data_fields
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.spec import ModalitySpec
from versatile_diffusion.pipeline.request import Count, RequestOf, Seed
from versatile_diffusion.validation import Strict

CHUNK = "request"
"""Text chunk of a PNG, and key of JSON, that holds a record."""

MOST_OUTPUTS = 65536
"""Outputs of a batch."""

Checksum = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Field(max_length=4096)]
Text = Annotated[str, Field(max_length=1_000_000)]
Row = Annotated[int, Field(ge=0, lt=MOST_OUTPUTS)]
Plain = bool | int | float | Text
"""An option of decoding that JSON holds as it is."""


class Input(Strict):
    """An image, a mask or an array, named by what it holds."""

    sha256: Checksum
    shape: Annotated[tuple[int, ...], Field(max_length=8)]

    def __str__(self) -> str:
        return f"{' × '.join(map(str, self.shape))}, sha256 {self.sha256}"


class ContextRecord(ContextOf[Text | Input, Input, Input]):
    """One condition: see `ContextOf`.

    Attributes:
        shared: whether all items of the batch had the same data, which was then encoded once.
    """

    shared: bool = False

    @model_validator(mode="after")
    def _names_no_file(self) -> Self:
        _require_kind(modality_spec(self.modality), self.data)
        return self

    @property
    def inputs(self) -> Iterator[Input]:
        """What it was given besides words."""
        for value in (self.data, self.embedding, self.mask, self.unconditional):
            if isinstance(value, Input):
                yield value


class RemainderRecord(Strict):
    """What went on of a batch after a step, where some of it was no longer wanted.

    Attributes:
        step: its number, from 1.
        rows: numbers of the outputs that went on.
    """

    step: Count
    rows: Annotated[tuple[Row, ...], Field(max_length=MOST_OUTPUTS)]


class BatchRecord(Strict):
    """What an output was made together with. Batches of other sizes round otherwise; what is in them does not matter.

    Attributes:
        items: of data.
        num_outputs: of each item.
        row: of this output.
        remainders: where the batch became smaller.
    """

    items: Count = 1
    num_outputs: Count = 1
    row: Row = 0
    remainders: Annotated[tuple[RemainderRecord, ...], Field(max_length=1024)] = ()

    @model_validator(mode="after")
    def _holds_the_output(self) -> Self:
        count = self.items * self.num_outputs
        if count > MOST_OUTPUTS:
            raise ValueError(f"the batch has {count} outputs, and may have {MOST_OUTPUTS}")
        left = [one for one in self.remainders if self.row not in one.rows or max(one.rows) >= count]
        if self.row >= count or left:
            raise ValueError("the output is not of its batch")
        return self


class Computed(Strict):
    """What computed an output.

    Attributes:
        model: as the user named it; never opened unless the user says so again.
        loras: likewise.
        weights: how they were stored, if not in the dtype.
        backend: what computed the diffuser, if not PyTorch.
        device: its type.
        dtype: fp32, bf16 or fp16.
        version: of this package.
        torch: version of PyTorch.
    """

    model: Name
    loras: Annotated[tuple[Name, ...], Field(max_length=64)] = ()
    weights: Literal["int8"] | None = None
    backend: Literal["openvino"] | None = None
    device: Name = "cpu"
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    version: Name = ""
    torch: Name = ""


class Record(RequestOf[ContextRecord, Text | Input, Input]):
    """A request for one output as it was resolved, with what else decides how it turns out.

    Attributes:
        seed: of the output's own generator.
        start_shared: whether all items of the batch had the same start.
        decoding: options of the modality's `decode`; data among them are inputs, unless they are words.
        batch: that the output was made in.
        computed: what computed it.
    """

    format: Literal[1] = 1
    seed: Seed
    start_shared: bool = False
    decoding: Annotated[dict[str, Plain | Input], Field(default_factory=dict)]
    batch: BatchRecord = BatchRecord()
    computed: Computed

    @model_validator(mode="after")
    def _names_no_file(self) -> Self:
        spec = modality_spec(self.to)
        if isinstance(self.start, str):
            _require_kind(spec, self.start)
        data = data_fields(spec.decoding)
        for name in self.decoding.keys() & data.keys():
            _require_kind(modality_spec(data[name]), self.decoding[name])
        if any(isinstance(value, Input) for name, value in self.decoding.items() if name not in data):
            raise ValueError(_KINDS)
        try:
            spec.decoding_options(self.decoding)
        except TypeError as error:  # there is no such option
            raise ValueError(str(error)) from error
        if not self.contexts:
            raise ValueError("contexts are missing")
        return self

    @property
    def inputs(self) -> dict[str, Input]:
        """All that it was given besides words, by their checksums."""
        others = (self.start, self.latents, *self.decoding.values())
        found = [value for context in (*self.contexts, *self.negative) for value in context.inputs]
        found += [value for value in others if isinstance(value, Input)]
        return {value.sha256: value for value in found}


_KINDS = "texts are words, pictures are inputs"  # a string in an image's place would be taken for a path


def _require_kind(spec: ModalitySpec, data: object) -> None:
    """Raises ValueError unless data are words where the modality's are, and an input where not."""
    if data is not None and isinstance(data, str) != spec.codec.inline:
        raise ValueError(_KINDS)


__getattr__ = former_names(
    __name__,
    {
        "Recipe": "versatile_diffusion.provenance.record:Record",
        "ContextRecipe": "versatile_diffusion.provenance.record:ContextRecord",
        "Remainder": "versatile_diffusion.provenance.record:RemainderRecord",
        "Batch": "versatile_diffusion.provenance.record:BatchRecord",
    },
)
