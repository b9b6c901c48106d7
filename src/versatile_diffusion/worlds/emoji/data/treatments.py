"""Treatments: what a renderer can do to any drawing, whoever drew it, and people have a word for.

Each is one consistent function of a drawing with transparency, uint8 (h w 4), and returns a finished image, uint8
(h w 3). Lengths are told for images of 128 pixels and grow with larger ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageFilter
from scipy import ndimage  # pyright: ignore[reportMissingTypeStubs] - scipy has no types

Drawing = UInt8[np.ndarray, "h w 4"]
Finished = UInt8[np.ndarray, "h w 3"]
Rgb = tuple[int, int, int]

WHITE: Rgb = (255, 255, 255)
COLORS: dict[str, Rgb] = {
    "red": (214, 48, 49),
    "orange": (243, 140, 40),
    "yellow": (250, 211, 70),
    "green": (64, 160, 90),
    "blue": (62, 120, 214),
    "purple": (130, 80, 180),
    "pink": (246, 160, 192),
    "black": (24, 24, 28),
}
"""Backgrounds by their names."""

_LIGHTNESS = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_DARK_INK, _LIGHT_INK = np.array([38, 34, 98], dtype=np.float32), np.array([255, 214, 150], dtype=np.float32)
_SKY_TOP, _SKY_BOTTOM = np.array([9, 12, 36], dtype=np.float32), np.array([34, 44, 96], dtype=np.float32)
_MOONLIGHT = np.array([0.56, 0.63, 0.92], dtype=np.float32)
_PAPER = np.array([251, 248, 241], dtype=np.float32)
_STICKER_GROUND = np.array([196, 202, 210], dtype=np.float32)
_NEON_GROUND = np.array([14, 11, 26], dtype=np.float32)


@dataclass(frozen=True)
class Treatment:
    """A way to finish a drawing.

    Attributes:
        name: what it is called.
        draw: finishes a drawing; takes the name of the background's colour, and what it draws at random from.
        keeps_color: whether things that only their colours tell apart can still be told apart.
        keeps_inside: whether more than the outer shape of a thing is left.
        colored: whether it has a background of one of `COLORS`.
    """

    name: str
    draw: Callable[[Drawing, str, np.random.Generator], Finished]
    keeps_color: bool = True
    keeps_inside: bool = True
    colored: bool = False


def over(drawing: Drawing, ground: Float[np.ndarray, "*h_w 3"] | Rgb) -> Finished:
    """Returns a drawing on a ground, which is one colour or an image, in levels from 0 to 255."""
    share = drawing[..., 3:].astype(np.float32) / 255
    below = np.asarray(ground, dtype=np.float32)
    return _levels(drawing[..., :3] * share + below * (1 - share))


def _plain(drawing: Drawing, _color: str, _rng: np.random.Generator) -> Finished:
    return over(drawing, WHITE)


def _on_color(drawing: Drawing, color: str, _rng: np.random.Generator) -> Finished:
    return over(drawing, COLORS[color])


def _pixel_art(drawing: Drawing, _color: str, _rng: np.random.Generator) -> Finished:
    """32 × 32 squares of few colours each."""
    side = drawing.shape[0]
    share = drawing[..., 3:].astype(np.float32) / 255
    premultiplied = np.concatenate([drawing[..., :3] * share, share], axis=2)
    small = premultiplied.reshape(32, side // 32, 32, side // 32, 4).mean((1, 3))
    solid = small[..., 3:] > 0.5
    color = small[..., :3] / np.maximum(small[..., 3:], 1e-3)
    few = np.asarray(np.where(solid, np.rint(color / 51) * 51, 255), dtype=np.float32)
    return _levels(few.repeat(side // 32, axis=0).repeat(side // 32, axis=1))


def _line_drawing(drawing: Drawing, _color: str, _rng: np.random.Generator) -> Finished:
    return _levels(np.repeat(255 - 232 * _edges(drawing)[..., None], 3, axis=2))


def _silhouette(drawing: Drawing, _color: str, _rng: np.random.Generator) -> Finished:
    return _levels(np.repeat(255.0 - drawing[..., 3:], 3, axis=2))


def _black_and_white(drawing: Drawing, _color: str, _rng: np.random.Generator) -> Finished:
    return _levels(np.repeat(_lightness(drawing)[..., None], 3, axis=2))


def _duotone(drawing: Drawing, _color: str, _rng: np.random.Generator) -> Finished:
    """Dark blue ink on warm paper."""
    light = np.clip(_lightness(drawing)[..., None] / 255 - 0.12, 0, 1) ** 1.5 / 0.826
    return _levels(_DARK_INK * (1 - light) + _LIGHT_INK * light)


def _night(drawing: Drawing, _color: str, rng: np.random.Generator) -> Finished:
    """In moonlight, under a sky with some stars."""
    height, width = drawing.shape[:2]
    sky = np.linspace(_SKY_TOP, _SKY_BOTTOM, height, dtype=np.float32)[:, None].repeat(width, axis=1)
    for _ in range(int(rng.integers(6, 14))):
        top, left = (int(rng.random() * (side - 1)) for side in (height, width))
        sky[top : top + 2, left : left + 2] = rng.uniform(150, 245)
    lit = drawing.copy()
    lit[..., :3] = _levels(drawing[..., :3] * _MOONLIGHT)
    return over(lit, sky)


def _sticker(drawing: Drawing, _color: str, _rng: np.random.Generator) -> Finished:
    """Cut out with a white rim, and laid on grey, where it throws a soft shadow."""
    unit = drawing.shape[0] / 128
    rim = np.clip(5 * unit + 0.5 - _distance_from(drawing[..., 3] >= 128), 0, 1)[..., None]
    shadow = _blurred(np.roll(rim, round(2 * unit), axis=0), 2 * unit)
    ground = _STICKER_GROUND * (1 - 0.4 * shadow)
    return over(drawing, ground * (1 - rim) + 255 * rim)


def _neon(drawing: Drawing, _color: str, _rng: np.random.Generator) -> Finished:
    """Glowing tubes along the edges, in the dark."""
    unit = drawing.shape[0] / 128
    painted = _blurred(over(drawing, WHITE).astype(np.float32), 2 * unit)
    pale = painted.min(2, keepdims=True)
    vivid = (painted - pale) / np.maximum((painted - pale).max(2, keepdims=True), 24)
    hue = 90 + 165 * np.where((painted - pale).max(2, keepdims=True) > 24, vivid, np.array([0.35, 0.75, 1.0]))
    tubes = _edges(drawing)[..., None]
    glow = _blurred(tubes * hue, 3 * unit)
    return _levels(_NEON_GROUND * (1 - tubes) + tubes * hue + 0.8 * glow)


def _watercolor(drawing: Drawing, _color: str, rng: np.random.Generator) -> Finished:
    """Pigment that thins out within a shape and gathers at its edge, with a wavering outline, on paper."""
    height, width = drawing.shape[:2]
    unit = height / 128
    shift = [1.3 * unit * _smooth_noise(rng, (height, width), 7 * unit) for _ in range(2)]
    moved = _moved(drawing.astype(np.float32), shift[0], shift[1])
    wet = Image.fromarray(_levels(moved[..., :3])).filter(ImageFilter.MedianFilter(5))
    share = np.clip(moved[..., 3:] / 255, 0, 1)
    inner = _blurred(share, 2.5 * unit)
    thin = 0.74 + 0.26 * share * np.clip(2 * (1 - inner), 0, 1)
    wash = np.clip(thin + 0.12 * _smooth_noise(rng, (height, width), 5 * unit)[..., None], 0, 1) * share
    return _levels(np.asarray(wet, dtype=np.float32) * wash + _PAPER * (1 - wash))


PLAIN = Treatment("plain", _plain)
TREATMENTS: dict[str, Treatment] = {
    each.name: each
    for each in (
        PLAIN,
        Treatment("background", _on_color, colored=True),
        Treatment("pixel art", _pixel_art),
        Treatment("line drawing", _line_drawing, keeps_color=False),
        Treatment("silhouette", _silhouette, keeps_color=False, keeps_inside=False),
        Treatment("black and white", _black_and_white, keeps_color=False),
        Treatment("duotone", _duotone, keeps_color=False),
        Treatment("night", _night),
        Treatment("sticker", _sticker),
        Treatment("neon", _neon),
        Treatment("watercolor", _watercolor),
    )
}
"""All treatments by their names, plain first."""


def _levels(values: Float[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w c"]:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _lightness(drawing: Drawing) -> Float[np.ndarray, "h w"]:
    return over(drawing, WHITE).astype(np.float32) @ _LIGHTNESS


def _edges(drawing: Drawing) -> Float[np.ndarray, "h w"]:
    """Where colours or the outline change, from 0 to 1."""
    unit = drawing.shape[0] / 128
    layers = np.concatenate([over(drawing, WHITE), drawing[..., 3:]], axis=2).astype(np.float32)
    slopes = _slopes(_blurred(layers, unit)) * unit
    return np.clip((slopes.max(2) - 75) / 140, 0, 1)


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int], width: float) -> Float[np.ndarray, "h w"]:
    """Noise of unit variance whose spots are so many pixels wide."""
    noise = _blurred(rng.standard_normal((*shape, 1)).astype(np.float32), width)[..., 0]
    return noise / max(float(noise.std()), 1e-6)


# ---- what scipy does, which leaves types out ----


def _blurred(values: Float[np.ndarray, "h w c"], width: float) -> Float[np.ndarray, "h w c"]:
    return np.asarray(ndimage.gaussian_filter(values, (width, width, 0)))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def _slopes(values: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w c"]:
    down, across = (np.asarray(ndimage.sobel(values, axis)) for axis in (0, 1))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return np.hypot(down, across)


def _distance_from(solid: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    return np.asarray(ndimage.distance_transform_edt(~solid))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def _moved(
    values: Float[np.ndarray, "h w c"], down: Float[np.ndarray, "h w"], across: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w c"]:
    """Values taken from so many pixels further down and across."""
    rows, columns = np.indices(down.shape, dtype=np.float32)
    where = np.stack([rows + down, columns + across])
    layers = [
        np.asarray(ndimage.map_coordinates(values[..., i], where, order=1))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        for i in range(values.shape[2])
    ]
    return np.stack(layers, axis=2)
