"""Focus: semantics and style of an image, told apart in its context tokens (section 4.3 of the paper).

The leading directions of an image's local tokens carry its style, the many lesser ones what is seen. The amounts are
those of the official demo, which finds the directions by a randomised method; here the decomposition is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

RANK = 20  # directions that are weighed one by one
LEADING = 1  # of these, how many go when only semantics are to stay
CORE = 5  # of these, how many stay when only style is to stay


def adjust_focus(tokens: Float[Tensor, "b n d"], level: float) -> Float[Tensor, "b n d"]:
    """Moves the local tokens (without the class token) of images towards semantics or style.

    Args:
        tokens: context tokens; each image is taken by itself.
        level: 0 keeps semantics only, 1 style only, 0.5 everything.

    Returns:
        Tokens with the standard deviation of those given.

    Raises:
        ValueError: if the level is out of range.
    """
    if not 0 <= level <= 1:
        raise ValueError(f"focus must lie between 0 (semantics) and 1 (style), got {level}.")
    if level == 0.5:
        return tokens
    original = tokens.float()
    mean, u, s, v = _decompose(original, RANK)
    rest = original - mean - (u * s[:, None]) @ v if level < 0.5 else 0  # what the directions leave out
    adjusted = mean + rest + (u * (s * _weights(level, s.shape[-1]).to(s))[:, None]) @ v
    return (adjusted * (_deviation(original) / _deviation(adjusted).clamp_min(1e-12))).to(tokens.dtype)


def reduce_rank(tokens: Float[Tensor, "b n d"], rank: int) -> Float[Tensor, "b n d"]:
    """Returns the closest tokens that use only `rank` directions around their means."""
    mean, u, s, v = _decompose(tokens.float(), rank)
    return (mean + (u * s[:, None]) @ v).to(tokens.dtype)


def match_color(image: Float[Tensor, "3 h w"], reference: Float[Tensor, "3 h2 w2"]) -> Float[Tensor, "3 h w"]:
    """Gives each channel of an image in [0, 1] the mean and standard deviation of the reference's ("simple")."""
    reference = reference.to(image)
    (std, mean), (std_to, mean_to) = (
        torch.std_mean(x, dim=(-2, -1), correction=0, keepdim=True) for x in (image, reference)
    )
    return ((image - mean) / std.clamp_min(1e-6) * std_to + mean_to).clamp(0, 1)


def _decompose(tokens: Float[Tensor, "b n d"], rank: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean of each token, and the leading singular vectors and values of the rest."""
    mean = tokens.mean(-1, keepdim=True)
    svd = cast("Callable[..., tuple[Tensor, Tensor, Tensor]]", torch.linalg.svd)  # pyright: ignore - untyped in PyTorch
    u, s, v = svd(tokens - mean, full_matrices=False)
    return mean, u[..., :rank], s[..., :rank], v[..., :rank, :]


def _weights(level: float, rank: int) -> Float[Tensor, " rank"]:
    """Weight of each direction: a straight line that is 1 where nothing is to change, cut off at 0."""
    at = torch.arange(rank, dtype=torch.float32)
    if level < 0.5:
        lowest = _between(-LEADING, level, extreme=0)
        return (lowest + (1 - lowest) * at / (LEADING + 1)).clamp(0, 1)
    lowest = _between(CORE - rank, level, extreme=1)
    slope = (lowest - 1) / max(rank - CORE, 1)
    return (1 + slope * (at - (CORE - 1))).clamp(0, 1)


def _between(lowest: int, level: float, extreme: int) -> float:
    """From `lowest` at the extreme level to 1 at 0.5, exponentially."""
    start = math.exp(2 * extreme - 1)
    return lowest + (1 - lowest) * (math.exp(2 * level - 1) - start) / (1 - start)


def _deviation(tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b 1 1"]:
    return tokens.std(dim=(-2, -1), keepdim=True)
