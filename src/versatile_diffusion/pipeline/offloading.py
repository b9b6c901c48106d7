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
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import nn

from versatile_diffusion import kernels
from versatile_diffusion.diffuser import Diffuser

_MODALITIES = "modalities"


def offload_layers(pipe: WithOffloading, gpu_id: int | None = None, device: torch.device | str | None = None) -> None:
    """Brings each layer of the diffuser to the accelerator when it is needed; modalities as a whole.

    What `kernels.optimize` replaced in the diffuser is brought back first.

    Args:
        pipe: to be changed.
        gpu_id: which accelerator.
        device: the accelerator; the one that is there by default.

    Raises:
        RuntimeError: if there is none.
    """
    kernels.restore(pipe.diffuser)
    DiffusionPipeline.enable_sequential_cpu_offload(
        pipe,
        gpu_id,
        device,  # pyright: ignore[reportArgumentType] - None is its default
    )
    cpu_offload_with_hook(pipe.modalities, pipe._execution_device)  # pyright: ignore[reportPrivateUsage] - the only way


def offload_groups(
    pipe: WithOffloading,
    onload_device: torch.device | str,
    offload_device: torch.device | str = "cpu",
    offload_type: str = "leaf_level",
    use_stream: bool = False,
    **options: Any,
) -> None:
    """Brings each layer of the diffuser to the accelerator when it is needed; modalities as a whole.

    What `kernels.optimize` replaced in the diffuser is brought back first.

    Args:
        pipe: to be changed.
        onload_device: the accelerator.
        offload_device: where the weights of the diffuser wait.
        offload_type: "leaf_level", the only one: which blocks follow each other depends on the flow.
        use_stream: whether the next layer is brought while one computes. It is known only if there is one flow.
        options: see diffusers' `apply_group_offloading`.

    Raises:
        ValueError: if the type is another, or there are several flows and a stream.
    """
    diffuser = pipe.diffuser
    if offload_type != "leaf_level":
        raise ValueError(
            f'The diffuser is offloaded layer by layer: take offload_type="leaf_level", not {offload_type!r}.'
        )
    if use_stream and len(diffuser.data_layers) * len(diffuser.context_layers) > 1:
        raise ValueError(
            "use_stream needs layers that always follow each other: load the model with one flow, such as "
            'flows=["text-to-image"], or leave use_stream at False.'
        )
    pipe._maybe_raise_error_if_group_offload_active(  # pyright: ignore[reportPrivateUsage] - the only way
        raise_error=True
    )
    pipe.remove_all_hooks()
    kernels.restore(diffuser)
    onload, offload = torch.device(onload_device), torch.device(offload_device)
    apply_group_offloading(diffuser, onload, offload, offload_type, use_stream=use_stream, **options)
    cpu_offload_with_hook(pipe.modalities, onload)


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


class WithOffloading(DiffusionPipeline):
    """What a pipeline does to keep weights off the accelerator.

    `enable_model_cpu_offload`, which is diffusers', brings the modalities or the diffuser there, one at a time.
    """

    model_cpu_offload_seq = "modalities->diffuser"
    _exclude_from_cpu_offload = [_MODALITIES]  # noqa: RUF012 - from moving layer by layer; the type that diffusers reads

    diffuser: Diffuser
    modalities: Any

    def enable_sequential_cpu_offload(
        self, gpu_id: int | None = None, device: torch.device | str | None = None
    ) -> None:
        """Brings each layer of the diffuser to the accelerator when it is needed. See `offload_layers`."""
        offload_layers(self, gpu_id, device)

    def enable_group_offload(  # pyright: ignore[reportIncompatibleMethodOverride] - it has no choice of components
        self,
        onload_device: torch.device | str,
        offload_device: torch.device | str = "cpu",
        offload_type: str = "leaf_level",
        use_stream: bool = False,
        **options: Any,
    ) -> None:
        """Brings each layer of the diffuser to the accelerator when it is needed. See `offload_groups`."""
        offload_groups(self, onload_device, offload_device, offload_type, use_stream, **options)

    def _bring_modalities(self) -> None:
        bring_modalities(self.modalities, self.diffuser)

    def _put_modalities_away(self) -> None:
        put_away(self.modalities)
