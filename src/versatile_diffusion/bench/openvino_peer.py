"""diffusers' network as OpenVINO runs it: what else one would take on a CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from versatile_diffusion.pipeline.openvino import OPENVINO, PRECISIONS, compiled_for_cpu, to_openvino

Step = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Latents, timesteps and tokens -> noise."""


def openvino_computes(dtype: torch.dtype) -> bool:
    """Tells whether OpenVINO is installed, and computes in this precision."""
    return find_spec(OPENVINO) is not None and dtype in PRECISIONS


class _Noise(nn.Module):
    """The network as a function of tensors alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, latents: Float[Tensor, "b c h w"], timesteps: Int[Tensor, "b"], tokens: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b c h w"]:
        return self.network(latents, timesteps, tokens).sample


def openvino_step(network: nn.Module, example: tuple[Tensor, Tensor, Tensor], dtype: torch.dtype) -> Step:
    """Returns a network that OpenVINO has compiled for this machine, for one request at a time on all its cores.

    Args:
        network: diffusers', in float32; it may be let go of afterwards.
        example: latents, timesteps and tokens of the shapes that it will be called with, in float32.
        dtype: what to compute in. What goes in and comes out is in float32 all the same.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer, about conditions that hold for all inputs of these shapes
        converted = to_openvino(_Noise(network), example)
    converted.reshape({i: list(each.shape) for i, each in enumerate(example)})
    compiled = compiled_for_cpu(converted, dtype, {})

    def step(latents: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        given = [each.numpy() for each in (latents.float(), timesteps, tokens.float())]
        found: Tensor = torch.from_numpy(compiled(given)[0])  # pyright: ignore[reportUnknownMemberType] - untyped in part
        return found.to(latents.dtype)

    return step
