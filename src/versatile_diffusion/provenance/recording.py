# pyright: strict
"""From outputs to their records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from versatile_diffusion import __version__
from versatile_diffusion.arrays import are_levels, as_tensor
from versatile_diffusion.context import Context
from versatile_diffusion.devices import DTYPES
from versatile_diffusion.fields import data_fields
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.spec import Codec
from versatile_diffusion.pipeline.outputs import Origin
from versatile_diffusion.pipeline.request import Request
from versatile_diffusion.provenance.inputs import is_batch, is_single, item_value, mask_value, named
from versatile_diffusion.provenance.record import BatchRecord, Computed, ContextRecord, Input, Record
from versatile_diffusion.provenance.stored_record import StoredRecord
from versatile_diffusion.validation import checked

if TYPE_CHECKING:  # a server takes requests in without the libraries of models, which take seconds
    from versatile_diffusion.pipeline.pipeline import FlowPipeline


def computed_by(pipe: FlowPipeline, model: str, loras: Sequence[str] = (), weights: str | None = None) -> Computed:
    """Returns what computes the outputs of a pipeline, called `model` by the user."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    values = {
        "model": model,
        "loras": tuple(loras),
        "weights": weights,
        "backend": pipe.backend,
        "device": pipe.diffuser.device.type,
        "dtype": names[pipe.diffuser.dtype],
        "version": __version__,
        "torch": torch.__version__,
    }
    return checked(Computed, values)


def record_of(origin: Origin, computed: Computed) -> StoredRecord:
    """Returns the record of an output whose generator was seeded for it, and made nothing before.

    Raises:
        ValueError: if the outputs of the batch shared a generator or a scheduler object was given, or if the request is
            larger than records may be.
    """
    remainders = tuple({"step": one.step, "rows": one.rows} for one in origin.remainders)
    values = {"items": origin.items, "num_outputs": origin.request.num_outputs, "row": origin.row}
    batch = checked(BatchRecord, values | {"remainders": remainders})
    return record_of_row(origin.request, origin.item, origin.seed, batch, computed)


def record_of_row(request: Request, item: int, seed: int, batch: BatchRecord, computed: Computed) -> StoredRecord:
    """Returns the record of what a request makes of one of its items.

    Args:
        request: as it was resolved.
        item: its number.
        seed: of the output's generator.
        batch: what it is made together with.
        computed: what makes it.

    Raises:
        ValueError: if data of the request cannot be read, or it is larger than records may be.
    """
    row = _Row(item, batch)
    start, start_shared = row.start(modality_spec(request.to).codec, request.start)
    values = {
        **dict(request.sampling),
        "to": request.to,
        "contexts": tuple(map(row.context, request.contexts)),
        "negative": tuple(map(row.context, request.negative)),
        "seed": seed,
        "start": start,
        "start_shared": start_shared,
        "latents": None if request.latents is None else row.rows_of(request.latents, batch.row),
        "decoding": row.decoding(request),
        "batch": batch,
        "computed": computed,
    }
    return StoredRecord(checked(Record, values), row.inputs)


class _Row:
    """One item of a request that may be for a batch. It gathers the inputs that it meets."""

    def __init__(self, item: int, batch: BatchRecord) -> None:
        self.item, self.batch = item, batch
        self.inputs: dict[str, Tensor] = {}

    def context(self, context: Context) -> ContextRecord:
        codec = modality_spec(context.modality).codec
        masks = context.mask if is_batch(context.mask) else [context.mask]
        mask = masks[self.item if len(masks) > 1 else 0]
        unconditional = context.unconditional
        values = {
            "modality": context.modality,
            "data": None if context.data is None else self.data(codec, context.data),
            "embedding": None if context.embedding is None else self.rows_of(context.embedding),
            "weight": context.weight,
            "mask": None if mask is None else self._named(mask_value(mask)),
            "shared": self.shares(codec, context.data),
            "focus": context.focus,
            "unconditional": unconditional if isinstance(unconditional, str) else self.rows_of(unconditional),
        }
        return checked(ContextRecord, values)

    def shares(self, codec: Codec, data: object) -> bool:
        """Tells whether several items have the same data, which are encoded once."""
        return data is not None and self.batch.items > 1 and is_single(codec, data)

    def data(self, codec: Codec, data: object) -> str | Input:
        """Returns the item of data, in words or by its checksum."""
        return self._held(item_value(codec, data, self.item, self.batch.items))

    def start(self, codec: Codec, start: object) -> tuple[str | Input | None, bool]:
        """Returns the item of data and whether it is shared; or of latents, which have a row for each item."""
        if start is None:
            return None, False
        latents = _latents(codec, start)
        return (
            (self.data(codec, start), self.shares(codec, start)) if latents is None else (self.rows_of(latents), False)
        )

    def decoding(self, request: Request) -> dict[str, object]:
        """Returns options of decoding for the output, with data among them as inputs."""
        data = data_fields(modality_spec(request.to).decoding)
        total = self.batch.items * self.batch.num_outputs
        return {
            name: self._held(item_value(modality_spec(data[name]).codec, value, self.batch.row, total))
            if name in data
            else value
            for name, value in request.decoding.items()
            if value is not None
        }

    def rows_of(self, tensor: Tensor, row: int | None = None) -> Input:
        """Returns one row of a tensor, or the only one."""
        index = 0 if len(tensor) == 1 else self.item if row is None else row
        return self._named(tensor[index : index + 1].detach().cpu().clone())

    def _held(self, value: str | Tensor) -> str | Input:
        return value if isinstance(value, str) else self._named(value)

    def _named(self, value: Tensor) -> Input:
        name = named(value)
        self.inputs[name.sha256] = value
        return name


def _latents(codec: Codec, start: object) -> Tensor | None:
    """A start as latents: numbers with one axis more than an item of the modality, or that are no item at all."""
    if not _are_numbers(start):
        return None
    numbers = as_tensor(start, "start")
    try:
        axes = [value.ndim for value in codec.values(numbers) if isinstance(value, Tensor)]
    except (TypeError, ValueError):
        return numbers
    return numbers if axes and axes[0] < numbers.ndim else None


def _are_numbers(start: object) -> bool:
    """Whether it is an array, but not of 8-bit levels, or a list of numbers, however deep."""
    if hasattr(start, "dtype"):
        return not are_levels(start)
    while is_batch(start) and start:
        start = start[0]
    return isinstance(start, int | float)
