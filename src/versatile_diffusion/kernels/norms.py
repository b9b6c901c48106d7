"""Group norms of small images in bfloat16.

On the CPU, PyTorch's kernel for images whose channels lie side by side takes several times as long as the one for
contiguous images, where groups are narrow and positions few (`benchmarks/products.py norms`).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import group_norm

MOST_POSITIONS = 256
"""Of an image; copying a larger one takes longer than is won."""
MOST_CHANNELS = 4
"""Of a group."""


class SmallGroupNorm(nn.GroupNorm):
    """A group norm that computes small images as contiguous ones. It holds the parameters of the one it stands for."""

    def __init__(self, layer: nn.GroupNorm) -> None:
        nn.Module.__init__(self)
        self.num_groups, self.num_channels, self.eps = layer.num_groups, layer.num_channels, layer.eps
        self.affine, self.training = layer.affine, layer.training
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, input: Float[Tensor, "b c *place"]) -> Float[Tensor, "b c *place"]:
        """Returns what GroupNorm does, laid out as the input is."""
        if not _pays(input):
            return super().forward(input)
        normed = group_norm(input.contiguous(), self.num_groups, self.weight, self.bias, self.eps)
        return normed.contiguous(memory_format=torch.channels_last)

    def plain(self) -> nn.GroupNorm:
        """Returns what it stands for."""
        layer = nn.GroupNorm(self.num_groups, self.num_channels, self.eps, affine=False)
        layer.affine, layer.training, layer.weight, layer.bias = self.affine, self.training, self.weight, self.bias
        return layer


def compute_small(network: nn.Module) -> None:
    """Puts a `SmallGroupNorm` in place of every group norm of narrow groups on the CPU."""
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if type(layer) is nn.GroupNorm and _is_narrow(layer):
                setattr(parent, name, SmallGroupNorm(layer))


def compute_plain(network: nn.Module) -> None:
    """Puts back what they stand for."""
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, SmallGroupNorm):
                setattr(parent, name, layer.plain())


def _is_narrow(layer: nn.GroupNorm) -> bool:
    on_cpu = layer.affine and layer.weight.device.type == "cpu"
    return on_cpu and layer.num_channels // layer.num_groups <= MOST_CHANNELS


def _pays(x: Tensor) -> bool:
    return (
        x.dtype is torch.bfloat16
        and x.device.type == "cpu"
        and x.ndim == 4
        and x.shape[2] * x.shape[3] <= MOST_POSITIONS
        and not x.is_contiguous()
        and not torch.compiler.is_compiling()
    )
