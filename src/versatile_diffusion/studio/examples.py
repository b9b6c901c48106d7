"""Examples that fill in a task. Their pictures are drawn when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from versatile_diffusion.provenance import png
from versatile_diffusion.studio.controls import MaskedImage, NamedFile, Values
from versatile_diffusion.worlds.postcards import Scene, render

SIZE = 256
_PLACES = {"left": (0, 0, 0.5, 1), "right": (0.5, 0, 1, 1), "top": (0, 0, 1, 0.5)}


@dataclass(frozen=True)
class Half:
    """A scene of which one half is painted over."""

    scene: Scene
    hidden: str


@dataclass(frozen=True)
class Sample:
    """A file of this folder."""

    name: str


@dataclass(frozen=True)
class Example:
    """What to fill in.

    Attributes:
        title: of its button.
        drawn: by the names of controls; a `Scene` or a `Half` stands for its picture, a `Sample` for its file.
    """

    title: str
    drawn: Mapping[str, Any]

    @property
    def values(self) -> Values:
        """What to fill in, with its pictures."""
        return {name: _picture(value) for name, value in self.drawn.items()}


def scene(subject: str, color: str, place: str, **more: str) -> Scene:
    """A scene; what is left out is plain."""
    plain = {"time": "day", "weather": "clear", "position": "middle", "style": "postcard"}
    return Scene(subject=subject, color=color, place=place, seed=3, **plain | more)


def _picture(value: Any) -> Any:
    match value:
        case Scene():
            return postcard(value)
        case Half():
            return MaskedImage(postcard(value.scene), _half(value.hidden))
        case Sample(name):
            return NamedFile(name, Path(__file__).with_name(name).read_bytes())
        case _:
            return value


@cache
def postcard(drawn: Scene, size: int = SIZE) -> bytes:
    """A scene's picture, as PNG."""
    return png(Image.fromarray(render(drawn, size)))


@cache
def _half(hidden: str) -> bytes:
    mask = Image.new("L", (SIZE, SIZE), 255)
    left, top, right, bottom = (round(SIZE * part) for part in _PLACES[hidden])
    mask.paste(0, (left, top, right, bottom))
    return png(mask)
