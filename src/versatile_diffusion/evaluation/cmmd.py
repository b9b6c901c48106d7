"""CMMD: how far apart two sets of images are in CLIP's space (arXiv 2401.09603).

It is 1000 times the squared maximum mean discrepancy of the embeddings under a Gaussian kernel of sigma 10, in the form
that its authors released: the one of least variance, which counts an image with itself as well. That is biased a little
upwards, by less than 1 for 30,000 images and more for few.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

SIGMA, SCALE = 10.0, 1000.0
_ROWS = 512  # of the kernel that are held at once, so that memory does not grow with the square of the images


def cmmd(
    real: Float[Tensor, "n d"],
    made: Float[Tensor, "m d"],
    real_weights: Float[Tensor, "times n"] | None = None,
    made_weights: Float[Tensor, "times m"] | None = None,
) -> Float[Tensor, " times"]:
    """Returns the distance between two sets of embeddings of unit length, computed in float64 on the CPU.

    Args:
        real: of the images to compare with.
        made: of the images that are measured.
        real_weights: how often each of the first counts, for as many distances at once; by default once, for one.
        made_weights: likewise of the second.
    """
    sets = [each.double().cpu() for each in (real, made)]
    given = (real_weights, made_weights)
    weights = [_shares(weight, len(each)) for weight, each in zip(given, sets, strict=True)]
    within = sum(_mean(each, each, weight, weight) for each, weight in zip(sets, weights, strict=True))
    return SCALE * (within - 2 * _mean(sets[0], sets[1], weights[0], weights[1]))


def _shares(weights: Float[Tensor, "times n"] | None, count: int) -> Float[Tensor, "n times"]:
    """Weights that sum to one for each distance."""
    chosen = torch.ones(1, count) if weights is None else weights
    return (chosen.double() / chosen.double().sum(1, keepdim=True)).T


def _mean(
    a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], left: Float[Tensor, "n times"], right: Float[Tensor, "m times"]
) -> Float[Tensor, " times"]:
    """The weighted mean of the kernel between two sets, less 1, which cancels out of the distance.

    The kernel is near 1 everywhere, so that without the 1 no digits are lost.
    """
    norms, total = b.square().sum(1), torch.zeros(left.shape[1], dtype=torch.float64)
    for start in range(0, len(a), _ROWS):
        rows = a[start : start + _ROWS]
        squares = rows.square().sum(1)[:, None] + norms - 2 * rows @ b.T
        kernel = torch.expm1(-squares / (2 * SIGMA**2))
        total += (left[start : start + _ROWS] * (kernel @ right)).sum(0)
    return total
