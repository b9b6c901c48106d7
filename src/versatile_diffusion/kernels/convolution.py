"""3×3 convolutions in float32, by whichever way is quickest for the pixels at hand.

Of many pixels by `winograd`; of few, where it takes longer to change the weights than to use them, in one product
(`benchmarks/products.py convolutions`).
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from versatile_diffusion.kernels import winograd
from versatile_diffusion.kernels.linear import linear

MANY = 16
"""Tiles that there must be for Winograd's way to pay."""


def convolve(
    x: Float[Tensor, "b c h w"], weight: Float[Tensor, "o c 3 3"], bias: Float[Tensor, "o"] | None = None
) -> Float[Tensor, "b o h w"]:
    """The same as `torch.nn.functional.conv2d` with a padding of 1, but for rounding. Takes no gradients.

    All have their channels last in memory, or it is slower.
    """
    way = winograd.convolve if winograd.count_tiles(x) >= MANY else in_one_product
    return way(x, weight, bias)


def in_one_product(
    x: Float[Tensor, "b c h w"], weight: Float[Tensor, "o c 3 3"], bias: Float[Tensor, "o"] | None = None
) -> Float[Tensor, "b o h w"]:
    """The same as `convolve`, of rows with all that a pixel sees."""
    padded = pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    seen = padded.unfold(1, 3, 1).unfold(2, 3, 1).permute(0, 1, 2, 4, 5, 3).flatten(3)
    return linear(seen, weight.permute(0, 2, 3, 1).flatten(1), bias).permute(0, 3, 1, 2)
