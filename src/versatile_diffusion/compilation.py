"""Compiling the diffuser with `torch.compile`: an option, because it takes a minute or more at the first step."""

from __future__ import annotations

from typing import Any

import torch._dynamo

from versatile_diffusion.diffuser import Diffuser

_SHAPES = 64
"""Blocks of one kind differ in channels and positions; more kinds than PyTorch's 8 would be left uncompiled."""


class WithCompilation:
    """What a pipeline does to be quicker after a slow start."""

    diffuser: Diffuser

    def compile(self, **options: Any) -> None:
        """Compiles the diffuser block by block, when each shape is first met.

        PyTorch keeps what it compiled in a folder for the next process (TORCHINDUCTOR_CACHE_DIR).

        Args:
            options: of `torch.compile`, such as mode="max-autotune".
        """
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _SHAPES)
        self.diffuser.compile_repeated_blocks(**{"fullgraph": True} | options)
