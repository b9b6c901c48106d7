"""The five styles: each turns a drawn scene into a kind of picture, and gives it an edge of its own."""

from collections.abc import Callable
from functools import cache
from math import gcd

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

Pixels = Float[np.ndarray, "size size 3"]
Map = Float[np.ndarray, "size size 1"]
Style = Callable[[Pixels, np.random.Generator], Pixels]

PIXEL_ART_LEVELS = 8
GRAY = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def saturate(image: Pixels, amount: float) -> Pixels:
    gray = (image @ GRAY)[..., None]
    return gray + amount * (image - gray)


def blur(image: Pixels) -> Pixels:
    """Returns a 3x3 binomial blur."""
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    return (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 16


def soft_noise(rng: np.random.Generator, size: int, cells: int) -> Map:
    """Returns smooth noise, (size, size, 1), about within [-1, 1], with `cells` bumps along a side."""
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))[..., None]


@cache
def edge_distance(size: int) -> Map:
    """Returns how far each pixel is from the nearest edge, (size, size, 1), in 64ths of the side."""
    along = (np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5) * 64 / size
    return np.minimum(along[:, None], along[None, :])[..., None].astype(np.float32)


@cache
def card_mask(size: int) -> Map:
    """Returns 1 inside a postcard's rounded picture, 0 on its border, smooth between; (size, size, 1)."""
    border, radius = 5.0, 6.0
    center = np.abs((np.arange(size) + 0.5) * 64 / size - 32) - (32 - border - radius)
    outside = np.maximum(center, 0)
    distance = np.hypot(outside[:, None], outside[None, :])[..., None]
    return np.clip((radius - distance) * size / 64 + 0.5, 0, 1).astype(np.float32)


def postcard(image: Pixels, rng: np.random.Generator) -> Pixels:
    mask = card_mask(len(image))
    return image * mask + 252 * (1 - mask)


@cache
def brush_strokes(size: int) -> tuple[Int[np.ndarray, "size size 2"], Map]:
    """Returns a field of strokes: the (dy, dx) from each pixel half way to the middle of the stroke that covers it,
    int (size, size, 2), and the strokes' relief, (size, size, 1) about 0."""
    side, unit = size, size / 64
    rng = np.random.default_rng(7)
    offsets = np.zeros((side, side, 2), dtype=np.int64)
    relief = np.zeros((side, side, 1), dtype=np.float32)
    turn = soft_noise(rng, side, 7)[..., 0] * 1.6
    ys, xs = np.mgrid[:side, :side]
    spots = [(y, x) for y in np.arange(0, 64, 2.6) for x in np.arange(0, 64, 4.2)]
    for i in rng.permutation(len(spots)):
        y, x = (np.array(spots[i]) + rng.uniform(-1.5, 1.5, 2)) * unit  # pyright: ignore[reportUnknownArgumentType] - NumPy leaves it to the platform
        iy, ix = (int(np.clip(round(c), 0, side - 1)) for c in (y, x))
        reach = int(6 * unit) + 1
        window = np.s_[max(0, iy - reach) : iy + reach + 1, max(0, ix - reach) : ix + reach + 1]
        dy, dx = ys[window] - y, xs[window] - x
        c, s = np.cos(turn[iy, ix]), np.sin(turn[iy, ix])
        along, across = (dx * c + dy * s) / (4.6 * unit), (dy * c - dx * s) / (1.9 * unit)
        inside = along**4 + across**2 < 1
        offsets[window][inside] = np.stack([iy - ys[window], ix - xs[window]], -1)[inside]
        relief[window][inside, 0] = (-across + 0.3 * rng.uniform(-1, 1))[inside]
    return offsets // 2, relief


@cache
def gilt_frame(size: int) -> Pixels:
    """Returns a gilded moulding with a dark inner rim, (size, size, 3); only the outer 5.5 64ths are of use."""
    depth = edge_distance(size)
    gold = np.array([176, 128, 52], dtype=np.float32) + 46 * np.cos((depth - 2) * 1.4)
    return np.where(depth < 4.5, gold, np.float32(58))


def oil_painting(image: Pixels, rng: np.random.Generator) -> Pixels:
    size = len(image)
    offsets, relief = brush_strokes(size)
    index = np.clip(np.indices((size, size)).transpose(1, 2, 0) + offsets, 0, size - 1)
    strokes = image[index[..., 0], index[..., 1]]
    painted = saturate(0.65 * strokes + 0.35 * image, 1.3) * np.array([1.0, 0.97, 0.88], dtype=np.float32) + 13 * relief
    depth = edge_distance(size)
    return np.where(depth < 5.5, gilt_frame(size), painted)


@cache
def hatching(size: int) -> Map:
    """Returns slanted pencil lines, in [0, 1]."""
    y, x = np.mgrid[:size, :size] * (64 / size)
    return (0.5 + 0.5 * np.sin(2 * np.pi * (x - y * 0.9) / 5.5))[..., None].astype(np.float32)


def pencil_sketch(image: Pixels, rng: np.random.Generator) -> Pixels:
    size = len(image)
    lines = hatching(size)
    gray = image @ GRAY
    down, across = np.gradient(gray)
    edges = np.hypot(down, across)[..., None] * size / 64
    fade = np.clip((edge_distance(size) - 3 - 2.5 * lines - 2 * soft_noise(rng, size, 8)) / 4, 0, 1)
    pigment = fade * (0.88 - 0.26 * lines)
    paper = np.array([250, 244, 228], dtype=np.float32)
    drawn = paper + (saturate(image, 1.1) - paper) * pigment
    return drawn - np.clip((edges - 12) * 1.6, 0, 70) * fade


def pixel_art(image: Pixels, rng: np.random.Generator) -> Pixels:
    size, step = len(image), 255 / (PIXEL_ART_LEVELS - 1)
    cells = gcd(size, 32)
    block = size // cells
    small = image.reshape(cells, block, cells, block, 3).mean((1, 3))
    small = np.round(saturate(small, 1.25) / step) * step
    small[edge_distance(cells)[..., 0] < 4] = (24, 20, 44)
    return small.repeat(block, 0).repeat(block, 1)


def watercolor(image: Pixels, rng: np.random.Generator) -> Pixels:
    size = len(image)
    wash = saturate(0.5 * blur(blur(image)) + 0.5 * image, 1.2)
    ragged = edge_distance(size) - 6.5 - 3.2 * soft_noise(rng, size, 9)
    mask = np.clip(ragged / 1.5, 0, 1)
    pigment = 0.72 + 0.13 * soft_noise(rng, size, 6) + 0.22 * np.exp(-((ragged - 1.5) ** 2) / 2)
    paper = np.array([253, 252, 248], dtype=np.float32)
    return paper + (wash - paper) * np.clip(pigment, 0, 1) * mask


STYLES: dict[str, Style] = {
    "postcard": postcard,
    "oil painting": oil_painting,
    "pencil sketch": pencil_sketch,
    "pixel art": pixel_art,
    "watercolor": watercolor,
}
