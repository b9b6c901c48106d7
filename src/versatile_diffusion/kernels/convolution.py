"""3×3 convolutions in float32, by whichever way is quickest for the pixels at hand.

Of many pixels by `winograd`; of few, where it takes longer to change the weights than to use them, as one product of
all that each pixel sees with all weights (`benchmarks/products.py convolutions`).
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from versatile_diffusion.kernels import winograd
from versatile_diffusion.kernels.linear import linear

MANY = 16
"""Tiles from which on their way pays."""


def convolve(
    x: Float[Tensor, "b c h w"], weight: Float[Tensor, "o c 3 3"], bias: Float[Tensor, "o"] | None = None
) -> Float[Tensor, "b o h w"]:
    """The same as `torch.nn.functional.conv2d` with a padding of 1, but for rounding. Takes no gradients.

    All have their channels last in memory, or it is slower.
    """
    if winograd.count_tiles(x) >= MANY:
        return winograd.convolve(x, weight, bias)
    padded = functional.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    seen = padded.unfold(1, 3, 1).unfold(2, 3, 1).permute(0, 1, 2, 4, 5, 3).flatten(3)
    return linear(seen, weight.permute(0, 2, 3, 1).flatten(1), bias).permute(0, 3, 1, 2)
