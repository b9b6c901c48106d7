"""Layers of a diffuser as they are before any training, made block by block as they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor, nn

from versatile_diffusion.checkpoints.tensors import LazyTensor
from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.diffuser.context_layers import ContextBlock
from versatile_diffusion.diffuser.data_layers import DataLayers
from versatile_diffusion.diffuser.global_layers import GlobalLayers
from versatile_diffusion.training.stages.preparation import seeded

Make = Callable[[], nn.Module]


def fresh_tensors(diffuser: Diffuser, seed: int) -> dict[str, LazyTensor]:
    """Returns what a diffuser is to be filled with: random weights, which are drawn when they are read.

    Args:
        diffuser: of these sizes; it needs no weights.
        seed: of the draws. A layer has the same weights whatever other layers there are.
    """
    found: dict[str, LazyTensor] = {}
    for prefix, make in _blocks(diffuser):
        drawn = _Drawn(prefix, make, seed)
        for name, tensor in diffuser.get_submodule(prefix).state_dict().items():
            found[f"{prefix}.{name}"] = LazyTensor(tuple(tensor.shape), torch.float16, drawn.reading(name))
    return found


class _Drawn:
    """A block that is made when one of its weights is asked for, and kept until another block is."""

    def __init__(self, prefix: str, make: Make, seed: int) -> None:
        self.prefix, self.make, self.seed = prefix, make, seed

    def reading(self, name: str) -> Callable[[], Tensor]:
        """Returns what returns a weight."""
        return lambda: _weights(self)[name]


@lru_cache(maxsize=1)
def _weights(block: _Drawn) -> dict[str, Tensor]:
    number = int.from_bytes(block.prefix.encode(), "little") % 2**31
    return {
        name: tensor.half() for name, tensor in seeded(block.seed * 2**31 + number, block.make).state_dict().items()
    }


def _blocks(diffuser: Diffuser) -> Iterator[tuple[str, Make]]:
    """The blocks of a diffuser by their names, each with what makes another one like it."""
    plan = diffuser.plan
    yield "global_layers", lambda: GlobalLayers(plan.config)
    for name, module in diffuser.data_layers.items():
        layers = cast(DataLayers, module)  # a ModuleDict holds modules of any kind
        for number, step in enumerate(plan.data):
            make = lambda layers=layers, step=step: layers.block(step, plan.config.time_channels)  # noqa: E731
            yield f"data_layers.{name}.{number}", make
    for name, width in diffuser.config["context_dims"].items():
        for number, step in enumerate(plan.context):
            make = lambda step=step, width=width: ContextBlock(step.channels, width, plan.config.num_heads)  # noqa: E731
            yield f"context_layers.{name}.{number}", make
