"""Which of the images that a model learnt from looks most like one that it made: memory, or composition?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64, UInt8
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

SIDE = 16
"""Images are compared by their colours on a grid of so many fields a side."""
_CHUNK = 1024


def nearest(
    images: Float[Tensor, "n 3 h w"],
    learnt: UInt8[ndarray, "m y x 3"],
    advance: Callable[[int], None] = lambda count: None,
) -> Int64[Tensor, " n"]:
    """Returns for each image the place of the learnt one whose colours differ least, in squares, on a coarse grid.

    Args:
        images: in [0, 1].
        learnt: as many as there are; they are read some at a time.
        advance: is told how many more were compared.
    """
    wanted = _coarse(images)
    best, places = torch.full((len(images),), float("inf")), torch.zeros(len(images), dtype=torch.long)
    for start in range(0, len(learnt), _CHUNK):
        chunk = torch.tensor(learnt[start : start + _CHUNK]).permute(0, 3, 1, 2) / 255
        distances, found = torch.cdist(wanted, _coarse(chunk)).min(dim=1)
        places = torch.where(distances < best, found + start, places)
        best = torch.minimum(best, distances)
        advance(len(chunk))
    return places


def _coarse(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
    return adaptive_avg_pool2d(images.float(), SIDE).flatten(1)
