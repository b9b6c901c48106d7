"""Data layers: one stream of blocks for each output modality, one block for each data step of the plan.

Two kinds come with the paper. `ConvolutionalLayers` denoise maps (b c h w); `FullyConnectedLayers` denoise vectors
(b d), held as a few positions of channels so that context layers can attend from them. A modality of another shape
brings a subclass of `DataLayers`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from versatile_diffusion.diffuser.plan import DataStep, Plan, Role

GROUPS = 32


class DataLayers(nn.ModuleList, ABC):
    """The blocks of one output modality, in the order of the plan's data steps.

    Every block is called as `block(features, time)` with features (b c *positions) and the time embedding (b t), on the
    way up also with the positions that are due, `block(features, time, positions)`: halved, an odd number was rounded.
    The first takes a latent instead of features, the last returns one.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(self.block(step, plan.config.time_channels) for step in plan.data)

    @abstractmethod
    def block(self, step: DataStep, time_channels: int) -> nn.Module:
        """Makes the block of one data step."""


class ResidualBlock(nn.Module):
    """Normalise, activate and project twice, with the time added in between; add the input.

    Args:
        project: makes a projection between two numbers of channels.
        shortcut: makes the projection of the input where the numbers differ.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        time_channels: int,
        project: Callable[[int, int], nn.Module],
        shortcut: Callable[[int, int], nn.Module],
    ) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(GROUPS, in_channels)
        self.project_in = project(in_channels, out_channels)
        self.project_time = nn.Linear(time_channels, out_channels)
        self.norm_out = nn.GroupNorm(GROUPS, out_channels)
        self.project_out = project(out_channels, out_channels)
        self.shortcut = nn.Identity() if in_channels == out_channels else shortcut(in_channels, out_channels)
        for parameter in self.project_out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "b c *s"], time: Float[Tensor, "b t"]) -> Float[Tensor, "b d *s"]:
        hidden = self.project_in(silu(self.norm_in(x)))
        shift = self.project_time(silu(time))
        hidden = hidden + shift.reshape(*shift.shape, *(1 for _ in hidden.shape[2:]))
        hidden = self.project_out(silu(self.norm_out(hidden)))
        return hidden + self.shortcut(x)


class TimelessBlock(nn.Module):
    """A block that does not look at the time."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(
        self, x: Float[Tensor, "b *c"], time: Float[Tensor, "b t"], positions: torch.Size | None = None
    ) -> Float[Tensor, "b *d"]:
        return self.layers(x)


class UpsampleBlock(nn.Module):
    """Twice the height and width by repetition, as far as they are due; then a projection."""

    def __init__(self, project: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Upsample(scale_factor=2.0, mode="nearest"), project)

    def forward(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b t"], positions: torch.Size
    ) -> Float[Tensor, "b d h2 w2"]:
        repeat, project = self.layers
        height, width = positions
        return project(repeat(x)[..., :height, :width])


class ConvolutionalLayers(DataLayers):
    """The image stream of the paper: a convolutional U-Net on latents (b c h w).

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
                return TimelessBlock(nn.Conv2d(inner, outer, kernel_size=3, stride=2, padding=1))
            case Role.UPSAMPLE:
                return UpsampleBlock(_convolution(inner, outer))
            case Role.OUTPUT:
                return TimelessBlock(nn.GroupNorm(GROUPS, inner), nn.SiLU(), _convolution(inner, self.latent_channels))


class FullyConnectedLayers(DataLayers):
    """The text stream of the paper: fully connected blocks on latents (b d).

    Features are (b c p): `positions` positions of c channels. Blocks see them as one vector of c·p numbers; context
    layers see p positions.

    Args:
        latent_dim: size of the latent.
        positions: how many positions the context layers see.
    """

    def __init__(self, plan: Plan, latent_dim: int, positions: int = 4) -> None:
        self.latent_dim = latent_dim
        self.positions = positions
        super().__init__(plan)

    def block(self, step: DataStep, time_channels: int) -> nn.Module:
        """See `DataLayers.block`."""
        inner, outer = step.in_channels * self.positions, step.out_channels * self.positions
        split = nn.Unflatten(1, (step.out_channels, self.positions))
        match step.role:
            case Role.INPUT:
                return TimelessBlock(nn.Linear(self.latent_dim, outer), split)
            case Role.RESIDUAL:
                return FlattenedBlock(ResidualBlock(inner, outer, time_channels, nn.Linear, nn.Linear), self.positions)
            case Role.DOWNSAMPLE | Role.UPSAMPLE:  # the positions stay; the official network has a linear layer here
                return TimelessBlock(nn.Flatten(), nn.Linear(inner, outer), split)
            case Role.OUTPUT:
                norm = nn.GroupNorm(GROUPS, step.in_channels)
                return TimelessBlock(norm, nn.SiLU(), nn.Flatten(), nn.Linear(inner, self.latent_dim))


class FlattenedBlock(nn.Module):
    """Runs a block on all positions as one vector."""

    def __init__(self, block: ResidualBlock, positions: int) -> None:
        super().__init__()
        self.block = block
        self.positions = positions

    def forward(self, x: Float[Tensor, "b c p"], time: Float[Tensor, "b t"]) -> Float[Tensor, "b d p"]:
        return self.block(x.flatten(1), time).unflatten(1, (-1, self.positions))


def _convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


def _pointwise(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=1)
