"""Data layers of latents that have positions in time alone: the image stream of the paper, in one dimension."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from versatile_diffusion.diffuser.data_layers import GROUPS, DataLayers, ResidualBlock, TimelessBlock
from versatile_diffusion.diffuser.plan import DataStep, Plan, Role


class SequenceLayers(DataLayers):
    """A convolutional U-Net on latents (b c t).

    Args:
        latent_channels: channels of the latent.
    """

    def __init__(self, plan: Plan, latent_channels: int) -> None:
        self.latent_channels = latent_channels
        super().__init__(plan)

    def block(self, step: DataStep, time_channels: int) -> nn.Module:
        """See `DataLayers.block`."""
        inner, outer = step.in_channels, step.out_channels
        match step.role:
            case Role.INPUT:
                return TimelessBlock(_convolution(self.latent_channels, outer))
            case Role.RESIDUAL:
                return ResidualBlock(inner, outer, time_channels, project=_convolution, shortcut=_pointwise)
            case Role.DOWNSAMPLE:
                return TimelessBlock(nn.Conv1d(inner, outer, kernel_size=3, stride=2, padding=1))
            case Role.UPSAMPLE:
                return LongerBlock(_convolution(inner, outer))
            case Role.OUTPUT:
                return TimelessBlock(nn.GroupNorm(GROUPS, inner), nn.SiLU(), _convolution(inner, self.latent_channels))


class LongerBlock(nn.Module):
    """Twice as many positions by repetition, as far as they are due; then a projection."""

    def __init__(self, project: nn.Module) -> None:
        super().__init__()
        self.project = project

    def forward(
        self, x: Float[Tensor, "b c t"], time: Float[Tensor, "b e"], positions: torch.Size
    ) -> Float[Tensor, "b d t2"]:
        return self.project(x.repeat_interleave(2, dim=2)[..., : positions[0]])


def _convolution(in_channels: int, out_channels: int) -> nn.Conv1d:
    return nn.Conv1d(in_channels, out_channels, kernel_size=3, padding=1)


def _pointwise(in_channels: int, out_channels: int) -> nn.Conv1d:
    return nn.Conv1d(in_channels, out_channels, kernel_size=1)
