"""From outputs to recipes, and from recipes to outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from versatile_diffusion import __version__
from versatile_diffusion.context import Context, as_sequence
from versatile_diffusion.devices import DTYPES
from versatile_diffusion.modalities.image_files import rgb
from versatile_diffusion.modalities.images import read_images, read_mask
from versatile_diffusion.pipeline.outputs import Origin
from versatile_diffusion.pipeline.request import Request
from versatile_diffusion.provenance.files import Kept
from versatile_diffusion.provenance.inputs import mask_value, named, picture_value, usable
from versatile_diffusion.provenance.record import Batch, Computed, ContextRecipe, Input, Recipe, Remainder
from versatile_diffusion.sampling.options import Sampling
from versatile_diffusion.sampling.sampler import StepChange

_PLAIN = tuple(name for name in Sampling.model_fields if name != "guidance_scale")
_OTHERS = ("to", "contexts", "negative", "guidance_scale", "start", "latents", "num_outputs", "seeds")


def computed_by(pipe: Any, model: str, loras: Sequence[str] = (), weights: str | None = None) -> Computed:
    """What computes the outputs of a pipeline, called `model` by the user."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    return Computed(
        model=model,
        loras=tuple(loras),
        weights=cast(Any, weights),
        device=pipe.diffuser.device.type,
        dtype=cast(Any, names[pipe.diffuser.dtype]),
        version=__version__,
        torch=torch.__version__,
    )


def recipe_of(origin: Origin, computed: Computed) -> Kept:
    """The recipe of an output whose generator was seeded for it, and made nothing before.

    Raises:
        ValueError: if the outputs of the batch shared a generator or a scheduler object was given.
    """
    request = origin.request
    remainders = tuple(Remainder(step=one.step, rows=one.rows) for one in origin.remainders)
    batch = Batch(items=origin.items, num_outputs=request.num_outputs, row=origin.row, remainders=remainders)
    arguments = {name: getattr(request, name) for name in type(request).model_fields if name != "decoding"}
    return recipe_of_row(arguments | dict(request.decoding), origin.item, origin.seed, batch, computed)


def recipe_of_row(arguments: Mapping[str, Any], item: int, seed: int, batch: Batch, computed: Computed) -> Kept:
    """The recipe of what `generate` makes of one item of its arguments, with their inputs.

    Args:
        arguments: of `generate`, the guidance scale among them.
        item: its number.
        seed: of its generator.
        batch: what it is made together with.
        computed: what makes it.
    """
    row = _Row(item, batch.row, batch.items)
    decoding = {
        name: row.data("image", value) if name == "colors_of" else value
        for name, value in arguments.items()
        if name not in (*_PLAIN, *_OTHERS) and value is not None
    }
    recipe = Recipe(
        to=arguments["to"],
        contexts=tuple(map(row.context, as_sequence(arguments["contexts"]))),
        negative=tuple(map(row.context, as_sequence(arguments.get("negative") or ()))),
        seed=seed,
        guidance_scale=arguments["guidance_scale"],
        start=row.start(arguments["to"], arguments.get("start")),
        start_shared=row.shares(arguments.get("start")),
        latents=row.tensor(arguments.get("latents"), batch.row),
        decoding=cast(Any, decoding),
        batch=batch,
        computed=computed,
        **{name: arguments[name] for name in _PLAIN if arguments.get(name) is not None},
    )
    return Kept(recipe, row.inputs)


class _Row:
    """One item of arguments that may be batches. It gathers the inputs that it meets."""

    def __init__(self, item: int, row: int, items: int) -> None:
        self.item, self.row, self.items = item, row, items
        self.inputs: dict[str, Tensor] = {}

    def context(self, context: Context) -> ContextRecipe:
        mask = context.mask[self.item] if isinstance(context.mask, list | tuple) else context.mask
        named_one = isinstance(context.unconditional, str)
        return ContextRecipe(
            modality=cast(Any, context.modality),
            data=None if context.data is None else self.data(context.modality, context.data),
            embedding=self.tensor(context.embedding),
            weight=context.weight,
            mask=None if mask is None else self._named(mask_value(read_mask(mask))),
            shared=self.shares(context.data),
            focus=context.focus,
            unconditional=cast(Any, context.unconditional if named_one else self.tensor(context.unconditional)),
        )

    def shares(self, data: Any) -> bool:
        """Whether several items have the same data, which are encoded once."""
        return data is not None and self.items > 1 and _is_single(data)

    def data(self, modality: str, data: Any) -> str | Input:
        """One of the texts or pictures, or the only one."""
        if modality == "text":
            return data if isinstance(data, str) else _nth(list(data), self.item)
        if isinstance(data, list | tuple):
            data = _nth(data, self.item)
        if isinstance(data, Image.Image) and (seen := rgb(data)) is not None:
            return self._named(torch.from_numpy(np.array(seen)))
        return self._named(picture_value(_nth(read_images(data), self.item)))

    def start(self, modality: str, start: Any) -> str | Input | None:
        """Data, or latents, which have a row for each item."""
        if isinstance(start, Tensor) and start.ndim == (2 if modality == "text" else 4):
            return self.tensor(start)
        return None if start is None else self.data(modality, start)

    def tensor(self, tensor: Tensor | str | None, row: int | None = None) -> Input | None:
        """One row of a tensor, or the only one."""
        if not isinstance(tensor, Tensor):
            return None
        index = 0 if len(tensor) == 1 else self.item if row is None else row
        return self._named(tensor[index : index + 1].detach().cpu().clone())

    def _named(self, value: Tensor) -> Input:
        name = named(value)
        self.inputs[name.sha256] = value
        return name


def arguments_of(kept: Kept) -> dict[str, Any]:
    """Arguments of `generate` for the output of a recipe alone, without its generator.

    Raises:
        ValueError: if an input is missing, or what is asked for fits nothing.
    """
    return _Batched(kept, 1).arguments()


def replayed(pipe: Any, kept: Kept) -> Any:
    """Makes the output of a recipe again, in a batch of the same size at each step, so that it rounds as it did.

    Raises:
        ValueError: if an input is missing, or the model cannot make it.
    """
    recipe, batch = kept.recipe, kept.recipe.batch
    going = {remainder.step: StepChange(rows=remainder.rows) for remainder in batch.remainders}
    seeds = (recipe.seed,) * (batch.items * batch.num_outputs)
    request = Request.of(num_outputs=batch.num_outputs, seeds=seeds, **_Batched(kept, batch.items).arguments())
    made = pipe.run(request, on_step=lambda step: going.get(step.number))
    rows = [origin.row for origin in made.origins]
    return made.items[rows.index(batch.row)]


@dataclass(frozen=True)
class _Batched:
    """Arguments of `generate` for an item that fills a batch."""

    kept: Kept
    items: int

    def arguments(self) -> dict[str, Any]:
        recipe = self.kept.recipe
        self.kept.require_inputs()
        return {
            "to": recipe.to,
            "contexts": list(map(self._context, recipe.contexts)),
            "negative": list(map(self._context, recipe.negative)) or None,
            "guidance_scale": recipe.guidance_scale,
            "start": self._start(recipe.start),
            "latents": self._tensor(recipe.latents, recipe.batch.num_outputs),
            **{name: getattr(recipe, name) for name in _PLAIN},
            **{name: self._data(value) if name == "colors_of" else value for name, value in recipe.decoding.items()},
        }

    def _context(self, context: ContextRecipe) -> Context:
        named_one = isinstance(context.unconditional, str)
        return Context(
            context.modality,
            self._data(context.data, context.shared),
            embedding=self._tensor(context.embedding),
            weight=context.weight,
            mask=None if context.mask is None else usable(self._value(context.mask)),
            focus=context.focus,
            unconditional=cast(Any, context.unconditional if named_one else self._tensor(context.unconditional)),
        )

    def _value(self, name: Input) -> Tensor:
        return self.kept.inputs[name.sha256]

    def _data(self, data: Any, shared: bool = False) -> Any:
        if data is None:
            return None
        item = usable(self._value(data)) if isinstance(data, Input) else data
        return item if self.items == 1 or shared else [item] * self.items

    def _start(self, start: str | Input | None) -> Any:
        latents = isinstance(start, Input) and self._value(start).ndim != 3 and self._value(start).dtype != torch.uint8
        return self._tensor(start, 1) if latents else self._data(start, self.kept.recipe.start_shared)

    def _tensor(self, name: Any, times: int = 1) -> Any:
        if name is None:
            return None
        value = self._value(name)
        return value.expand(self.items * times, *value.shape[1:])


def _is_single(data: Any) -> bool:
    """Whether data are one item: a text, a picture, or a list or tensor of one."""
    batched = isinstance(data, list | tuple) or (isinstance(data, Tensor | np.ndarray) and data.ndim == 4)
    return not batched or len(data) == 1


def _nth(items: Sequence[Any], item: int) -> Any:
    return items[item if len(items) > 1 else 0]
