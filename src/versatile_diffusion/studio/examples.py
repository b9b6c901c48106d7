"""Examples that fill in a task, as a world gives them. Their pictures are drawn when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from versatile_diffusion.bundled import DEFAULT_MODEL
from versatile_diffusion.provenance import png
from versatile_diffusion.studio.controls import MaskedImage, NamedFile, Values
from versatile_diffusion.worlds.base import ExampleImage, Repertoire, World
from versatile_diffusion.worlds.registry import find_world, get_world

SIZE = 256
_PLACES = {"left": (0, 0, 0.5, 1), "right": (0.5, 0, 1, 1), "top": (0, 0, 1, 0.5)}


@dataclass(frozen=True)
class Example:
    """What to fill in.

    Attributes:
        title: of its button.
        given: what the world says is filled in, by the names of controls.
    """

    title: str
    given: Mapping[str, str | float | bool | ExampleImage | Path]

    @property
    def values(self) -> Values:
        """What to fill in, with its pictures and files."""
        return {name: _filled(value) for name, value in self.given.items()}


def examples_of(task: str, models: Iterable[str] = ()) -> list[Example]:
    """Returns the examples of a task: those of the first model that is a world, or else of the default one.

    Args:
        task: its key.
        models: names of the models that the studio shows.
    """
    world = _first_world(models) or get_world(DEFAULT_MODEL)
    return [Example(example.title, example.values) for example in world.examples(task)]


def repertoire_of(models: Iterable[str]) -> Repertoire | None:
    """Returns what the first model that is a world can be asked for, if there is one.

    Args:
        models: names of the models that the studio shows.
    """
    world = _first_world(models)
    return world and world.repertoire()


def _first_world(models: Iterable[str]) -> World | None:
    return next((found for name in models if (found := find_world(name))), None)


def _filled(value: str | float | bool | ExampleImage | Path) -> object:
    match value:
        case ExampleImage(hidden=None):
            return _picture(value)
        case ExampleImage(hidden=str(hidden)):
            return MaskedImage(_picture(value), _mask(hidden))
        case Path():
            return NamedFile(value.name, value.read_bytes())
        case _:
            return value


@cache
def _picture(image: ExampleImage) -> bytes:
    """The picture as PNG."""
    return png(Image.fromarray(image.draw(SIZE)))


@cache
def _mask(hidden: str) -> bytes:
    mask = Image.new("L", (SIZE, SIZE), 255)
    left, top, right, bottom = (round(SIZE * part) for part in _PLACES[hidden])
    mask.paste(0, (left, top, right, bottom))
    return png(mask)
