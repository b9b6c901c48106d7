# pyright: strict
"""From records back to outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from versatile_diffusion._moved import former_names
from versatile_diffusion.context import Context
from versatile_diffusion.fields import data_fields
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.spec import Codec
from versatile_diffusion.pipeline.request import Request
from versatile_diffusion.provenance.inputs import is_item, restored_mask
from versatile_diffusion.provenance.record import ContextRecord, Input
from versatile_diffusion.provenance.stored_record import StoredRecord
from versatile_diffusion.sampling.sampler import StepChange

if TYPE_CHECKING:
    from versatile_diffusion.pipeline.pipeline import FlowPipeline


def replayed(pipe: FlowPipeline, stored: StoredRecord) -> object:
    """Makes the output of a record again, in a batch of the same size at each step, so that it rounds as it did.

    Raises:
        ValueError: if an input is missing, or the model cannot make it.
    """
    batch = stored.record.batch
    going = {remainder.step: StepChange(rows=remainder.rows) for remainder in batch.remainders}
    made = pipe.run(request_of(stored, batch.items, batch.num_outputs), on_step=lambda step: going.get(step.number))
    rows = [origin.row for origin in made.origins]
    return made.items[rows.index(batch.row)]


def request_of(stored: StoredRecord, items: int = 1, num_outputs: int = 1) -> Request:
    """Returns the request that makes the output of a record again.

    Args:
        stored: the record and its inputs.
        items: of the batch that the output fills; alone by default, which may round otherwise.
        num_outputs: of each item, all from the same seed.

    Raises:
        NoRecord: if an input is missing.
        ValueError: if what is asked for fits nothing.
    """
    record = stored.record
    stored.require_inputs()
    batch = _Batch(stored, items)
    return Request.of(
        record.to,
        [batch.context(context) for context in record.contexts],
        **dict(record.sampling),
        negative=[batch.context(context) for context in record.negative],
        start=batch.start(),
        latents=batch.rows(record.latents, num_outputs),
        num_outputs=num_outputs,
        seeds=(record.seed,) * (items * num_outputs),
        decoding=batch.decoding(),
    )


@dataclass(frozen=True)
class _Batch:
    """A batch that one item fills."""

    stored: StoredRecord
    items: int

    def context(self, context: ContextRecord) -> Context:
        codec = modality_spec(context.modality).codec
        unconditional = context.unconditional
        return Context(
            context.modality,
            self._data(codec, context.data, context.shared),
            embedding=self.rows(context.embedding),
            weight=context.weight,
            mask=None if context.mask is None else restored_mask(self._value(context.mask)),
            focus=context.focus,
            unconditional=unconditional if isinstance(unconditional, str) else self.rows(unconditional),
        )

    def start(self) -> object:
        record, codec = self.stored.record, modality_spec(self.stored.record.to).codec
        if isinstance(record.start, Input) and not is_item(codec, self._value(record.start)):
            return self.rows(record.start)
        return self._data(codec, record.start, record.start_shared)

    def decoding(self) -> dict[str, object]:
        record = self.stored.record
        data = data_fields(modality_spec(record.to).decoding)
        return {
            name: self._data(modality_spec(data[name]).codec, value) if name in data else value
            for name, value in record.decoding.items()
        }

    def rows(self, name: Input | None, times: int = 1) -> Tensor | None:
        """Returns a row for each item, or so many for each."""
        if name is None:
            return None
        value = self._value(name)
        return value.expand(self.items * times, *value.shape[1:])

    def _value(self, name: Input) -> Tensor:
        return self.stored.inputs[name.sha256]

    def _data(self, codec: Codec, data: object, shared: bool = False) -> object:
        if data is None:
            return None
        item = codec.restored(self._value(data)) if isinstance(data, Input) else data
        return item if self.items == 1 or shared else [item] * self.items


__getattr__ = former_names(
    __name__,
    {
        "computed_by": "versatile_diffusion.provenance.recording:computed_by",
        "recipe_of": "versatile_diffusion.provenance.recording:record_of",
    },
)
