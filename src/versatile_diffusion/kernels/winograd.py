"""3×3 convolutions in float32 with a quarter of the multiplications.

Winograd's F(4×4, 3×3), after Lavin and Gray (https://arxiv.org/abs/1509.09308): a tile of 4×4 pixels comes out of 6×6.
In another base, a tile and a kernel take one product for each of 36 frequencies, where 144 would be due; and those of
one frequency, for all tiles, channels and kernels, are one product of matrices. Kernels are brought there anew in each
call, some at a time: they would take four times the memory if they stayed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from math import ceil, prod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

SIDE = 4
"""Pixels of the side of a tile that comes out."""

MANY = 16
"""Tiles that there must be for it to pay: it takes longer to change kernels than to use them for a few."""

_SEEN = SIDE + 2
_FREQUENCIES = _SEEN**2
_MOST_TILES = 256  # at once; more are not quicker
_TILES_BYTES, _KERNELS_BYTES = 24 * 2**20, 64 * 2**20  # of what is in the other base at once


def _for_squares(rows: list[list[float]]) -> Tensor:
    """The change of base of a square, of which each side changes so."""
    sides = torch.tensor(rows, dtype=torch.float64, device="cpu")
    return torch.kron(sides, sides).float()


_OF_TILES = _for_squares(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_OF_KERNELS = _for_squares(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
_BACK = _for_squares([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


class _Scratch(threading.local):
    """Memory that a thread keeps from call to call: to get it from the system takes longer than what is done there."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        size = prod(shape)
        if name not in self._kept or self._kept[name].numel() < size:
            with torch.inference_mode(False):
                self._kept[name] = torch.empty(size, dtype=torch.float32, device="cpu")
        return self._kept[name][:size].view(shape)


_scratch = _Scratch()


def count_tiles(x: Float[Tensor, "b c h w"]) -> int:
    """Returns how many tiles make up what comes out."""
    return len(x) * ceil(x.shape[2] / SIDE) * ceil(x.shape[3] / SIDE)


def convolve(
    x: Float[Tensor, "b c h w"], weight: Float[Tensor, "o c 3 3"], bias: Float[Tensor, "o"] | None = None
) -> Float[Tensor, "b o h w"]:
    """Returns what `torch.nn.functional.conv2d` does with a padding of 1, but for rounding. Takes no gradients.

    All have their channels last in memory, or it is slower.
    """
    pixels, kernels = x.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1).flatten(1, 2)
    (count, height, width, channels), outputs = pixels.shape, len(kernels)
    down, across = ceil(height / SIDE), ceil(width / SIDE)
    bias = weight.new_zeros(outputs) if bias is None else bias
    made = x.new_empty(count, down, SIDE, across, SIDE, outputs)
    each = x.element_size() * _FREQUENCIES * channels
    parts = _parts(outputs, ceil(outputs * each / _KERNELS_BYTES))
    changed, held = kernels, None
    for images, rows in _blocks(count, down, across, at_most=max(min(_MOST_TILES, _TILES_BYTES // each), 1)):
        tiles = _tiles(pixels[images], rows, across)
        for part in parts:
            if held != part:  # where there is one part only, it serves all blocks
                changed, held = _changed(_OF_KERNELS, kernels[part], "kernels"), part
            products = _scratch("products", _FREQUENCIES, len(tiles), len(changed))
            torch.bmm(tiles.transpose(0, 1), changed.permute(1, 2, 0), out=products)
            _bring_back(products, bias[part], made[images, rows, ..., part])
    return made.view(count, down * SIDE, across * SIDE, outputs)[:, :height, :width].permute(0, 3, 1, 2)


def _parts(size: int, count: int) -> list[slice]:
    """About equal ones."""
    step = max(ceil(size / max(count, 1)), 1)
    return [slice(begin, min(begin + step, size)) for begin in range(0, size, step)]


def _blocks(count: int, down: int, across: int, at_most: int) -> Iterator[tuple[slice, slice]]:
    """Images, and rows of their tiles, that are computed at once."""
    for images in _parts(count, ceil(count * across / at_most)):
        tiles_in_row = (images.stop - images.start) * across
        for rows in _parts(down, ceil(down * tiles_in_row / at_most)):
            yield images, rows


def _tiles(pixels: Float[Tensor, "b h w c"], rows: slice, across: int) -> Float[Tensor, "n f c"]:
    """Tiles in the other base: those of the first row, of all images, then those of the next."""
    count, height, width, channels = pixels.shape
    tiles = _scratch("tiles", rows.stop - rows.start, count * across, _FREQUENCIES, channels)
    seen = _scratch("seen", count, across, _SEEN, _SEEN, channels)
    for row, target in zip(range(rows.start, rows.stop), tiles, strict=True):
        top = SIDE * row - 1
        bottom = top + _SEEN
        missing = (1, SIDE * across + 1 - width, max(-top, 0), max(bottom - height, 0))
        strip = pad(pixels[:, max(top, 0) : bottom], (0, 0, *missing))
        seen.copy_(strip.unfold(2, _SEEN, SIDE).permute(0, 2, 1, 4, 3))
        _change(_OF_TILES, seen.view(-1, _FREQUENCIES, channels), target)
    return tiles.flatten(0, 1)


def _bring_back(products: Float[Tensor, "f n o"], bias: Float[Tensor, "o"], made: Float[Tensor, "b r 4 w 4 o"]) -> None:
    """Writes tiles of pixels, with a bias, from rows of them in the other base."""
    for row, target in zip(products.chunk(made.shape[1], dim=1), made.unbind(1), strict=True):
        tiles = torch.unflatten(_changed(_BACK, row.transpose(0, 1), "back"), 1, (SIDE, SIDE))
        torch.add(torch.unflatten(tiles, 0, (len(made), -1)), bias, out=target.transpose(1, 2))


def _changed(base: Float[Tensor, "g f"], squares: Float[Tensor, "n f c"], name: str) -> Float[Tensor, "n g c"]:
    return _change(base, squares, _scratch(name, len(squares), len(base), squares.shape[-1]))


def _change(
    base: Float[Tensor, "g f"], squares: Float[Tensor, "n f c"], out: Float[Tensor, "n g c"]
) -> Float[Tensor, "n g c"]:
    return torch.bmm(base.expand(len(squares), *base.shape), squares, out=out)
