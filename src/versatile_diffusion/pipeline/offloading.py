"""Weights that wait in host memory and are on the accelerator only while they are needed.

diffusers moves weights when a `forward` is called. That suits the diffuser; modalities are asked to embed, encode and
decode instead, so they move as a whole, before any of these.
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate import cpu_offload_with_hook  # pyright: ignore[reportMissingTypeStubs] - there are none
from accelerate.hooks import CpuOffload  # pyright: ignore[reportMissingTypeStubs] - there are none
from diffusers.hooks.group_offloading import apply_group_offloading
from torch import nn

from versatile_diffusion.diffuser import Diffuser


def offload_whole(modalities: nn.Module, device: torch.device) -> None:
    """Lets modules wait in host memory, and be brought to a device together by `bring_modalities`."""
    cpu_offload_with_hook(modalities, device)


def offload_leaves(
    diffuser: Diffuser,
    onload_device: torch.device | str,
    offload_device: torch.device | str,
    use_stream: bool,
    **options: Any,
) -> None:
    """Brings each layer of a diffuser to a device when it is needed; see diffusers' `apply_group_offloading`."""
    onload, offload = torch.device(onload_device), torch.device(offload_device)
    apply_group_offloading(diffuser, onload, offload, "leaf_level", use_stream=use_stream, **options)


def check_groups(diffuser: Diffuser, offload_type: str, use_stream: bool) -> None:
    """Raises ValueError unless layers can be offloaded so: which blocks follow each other depends on the flow."""
    if offload_type != "leaf_level":
        raise ValueError(
            f'The diffuser is offloaded layer by layer: take offload_type="leaf_level", not {offload_type!r}.'
        )
    if use_stream and len(diffuser.data_layers) * len(diffuser.context_layers) > 1:
        raise ValueError(
            "use_stream needs layers that always follow each other: load the model with one flow, such as "
            'flows=["text-to-image"], or leave use_stream at False.'
        )


def bring_modalities(modalities: nn.Module, diffuser: nn.Module) -> None:
    """Brings the modalities to where they compute, and puts the diffuser away, if they are offloaded."""
    hook = _hook(modalities)
    if hook is not None:
        put_away(diffuser)
        hook.pre_forward(modalities)  # pyright: ignore[reportUnknownMemberType] - untyped in accelerate


def put_away(module: nn.Module) -> None:
    """Brings a module to where it waits, if it is offloaded as a whole."""
    hook = _hook(module)
    if hook is not None:
        hook.init_hook(module)  # pyright: ignore[reportUnknownMemberType] - untyped in accelerate


def _hook(module: nn.Module) -> CpuOffload | None:
    hook = getattr(module, "_hf_hook", None)
    return hook if isinstance(hook, CpuOffload) else None
