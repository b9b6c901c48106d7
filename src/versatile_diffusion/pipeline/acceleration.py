"""What makes a pipeline quicker but asks for something in return: a slow start, or a model that waits to be trained."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import signature
from typing import Any

import torch
from torch import nn

from versatile_diffusion import kernels
from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.modalities.base import Modality

_SHAPES = 64
"""Blocks of one kind differ in channels and positions; more kinds than PyTorch's 8 would be left uncompiled."""


def compile_blocks(diffuser: Diffuser, **options: Any) -> None:
    """Compiles every block of a diffuser; blocks of one kind and shape share what is compiled.

    Each shape is compiled when it is first met, which takes a minute or more for all. PyTorch keeps what it compiled in
    a folder for the next process (TORCHINDUCTOR_CACHE_DIR). What `kernels.optimize` replaced is brought back first.

    Args:
        diffuser: to be compiled.
        options: of `torch.compile`, such as mode="max-autotune".
    """
    kernels.restore(diffuser)
    defaults: dict[str, Any] = {"fullgraph": True}
    accepted = signature(torch.compile).parameters  # pyright: ignore - its overloads are typed in part
    if "recompile_limit" in accepted:
        defaults["recompile_limit"] = _SHAPES
    else:  # before that, the setting was that of all threads
        from torch._dynamo import config

        config.recompile_limit = max(config.recompile_limit, _SHAPES)
    diffuser.compile_repeated_blocks(**defaults | options)  # pyright: ignore[reportUnknownMemberType] - untyped


def optimizable(diffuser: Diffuser, modalities: Iterable[Modality]) -> list[nn.Module]:
    """Returns the parts of a model that `kernels.optimize` makes quicker: the diffuser and autoencoders."""
    return [diffuser, *(part for modality in modalities for part in modality.packable)]
