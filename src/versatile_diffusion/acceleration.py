"""What makes a pipeline quicker but asks for something in return: a slow start, or a model that waits to be trained."""

from __future__ import annotations

from typing import Any

import torch._dynamo

from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.kernels import packing

_SHAPES = 64
"""Blocks of one kind differ in channels and positions; more kinds than PyTorch's 8 would be left uncompiled."""


class WithAcceleration:
    """What a pipeline does to be quicker."""

    diffuser: Diffuser

    def compile(self, **options: Any) -> None:
        """Compiles the diffuser block by block, when each shape is first met, which takes a minute or more.

        PyTorch keeps what it compiled in a folder for the next process (TORCHINDUCTOR_CACHE_DIR).

        Args:
            options: of `torch.compile`, such as mode="max-autotune".
        """
        self.unpack()
        compile_blocks(self.diffuser, **options)

    def pack(self) -> None:
        """Lays the weights of the diffuser out for the CPU, once instead of at every step.

        Outputs stay the same, and the model can be saved. Brought to another device or dtype it is as quick as before;
        LoRAs, `quantize` and `compile` unpack it. Does nothing where the diffuser is not on the CPU.
        """
        packing.pack(self.diffuser)

    def unpack(self) -> None:
        """Brings back what `pack` replaced, for example to train it."""
        packing.unpack(self.diffuser)


def compile_blocks(diffuser: Diffuser, **options: Any) -> None:
    """Compiles every block; blocks of one kind and shape share what is compiled."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _SHAPES)
    diffuser.compile_repeated_blocks(**{"fullgraph": True} | options)
