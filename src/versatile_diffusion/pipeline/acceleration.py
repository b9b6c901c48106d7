"""What makes a pipeline quicker but asks for something in return: a slow start, or a model that waits to be trained."""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch._dynamo
from torch import nn

from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.kernels import packing

_SHAPES = 64
"""Blocks of one kind differ in channels and positions; more kinds than PyTorch's 8 would be left uncompiled."""


class WithAcceleration:
    """What a pipeline does to be quicker."""

    diffuser: Diffuser
    modalities: Any

    def compile(self, **options: Any) -> None:
        """Compiles the diffuser block by block, when each shape is first met, which takes a minute or more.

        PyTorch keeps what it compiled in a folder for the next process (TORCHINDUCTOR_CACHE_DIR).

        Args:
            options: of `torch.compile`, such as mode="max-autotune".
        """
        packing.unpack(self.diffuser)
        compile_blocks(self.diffuser, **options)

    def pack(self) -> None:
        """Lays the weights of the diffuser and of autoencoders out for the CPU, once instead of at every step.

        Outputs stay the same but for rounding, and the model can be saved. Brought to another device or dtype it is as
        quick as before; LoRAs, `quantize` and `compile` unpack the diffuser. Does nothing to what is not on the CPU.
        """
        for module in self._packable():
            packing.pack(module)

    def unpack(self) -> None:
        """Brings back what `pack` replaced, for example to train it."""
        for module in self._packable():
            packing.unpack(module)

    def _packable(self) -> list[nn.Module]:
        return [self.diffuser, *(part for modality in self.modalities.values() for part in modality.packable)]


def compile_blocks(diffuser: Diffuser, **options: Any) -> None:
    """Compiles every block; blocks of one kind and shape share what is compiled."""
    defaults: dict[str, Any] = {"fullgraph": True}
    if "recompile_limit" in signature(torch.compile).parameters:
        defaults["recompile_limit"] = _SHAPES
    else:  # before that, the setting was that of all threads
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _SHAPES)
    diffuser.compile_repeated_blocks(**defaults | options)
    diffuser.contexts_at_once = False  # each thread would compile for itself
