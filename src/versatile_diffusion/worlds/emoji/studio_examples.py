"""What fills in the forms of the studio: prompts and drawings that a model of emoji knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from versatile_diffusion.worlds.base import ExampleImage, WorldExample

DRAWINGS = Path(__file__).with_name("examples")
"""Images of the part of the data set that no model learns from; NOTICE.md names the artists."""


def image(name: str, hidden: str | None = None) -> ExampleImage:
    """Returns a drawing, of which a part may be painted over."""
    return ExampleImage(partial(_pixels, name), hidden)


def _pixels(name: str, size: int) -> UInt8[np.ndarray, "size size 3"]:
    with Image.open(DRAWINGS / f"{name}.png") as drawing:
        return np.asarray(drawing.convert("RGB").resize((size, size), Image.Resampling.LANCZOS))


def _prompts(*texts: str) -> list[WorldExample]:
    return [WorldExample(text, {"prompt": text}) for text in texts]


EXAMPLES: Mapping[str, Sequence[WorldExample]] = {
    "text-to-image": _prompts("an owl, 3D style", "a red apple, flat style", "a pixel art picture of a guitar"),
    "image-to-text": [
        WorldExample("Rabbit", {"picture": image("rabbit")}),
        WorldExample("House", {"picture": image("house")}),
    ],
    "image-variation": [
        WorldExample("Cat, free", {"picture": image("cat"), "fidelity": 0, "focus": 0.5, "colors": False}),
        WorldExample(
            "Castle, close to the layout", {"picture": image("castle"), "fidelity": 0.4, "focus": 0.5, "colors": True}
        ),
        WorldExample("A cat in another style", {"picture": image("cat"), "fidelity": 0, "focus": 0, "colors": False}),
    ],
    "text-variation": _prompts("a guitar on a blue background", "a line drawing of a house"),
    "dual-context": [
        WorldExample("Guitar as pixel art", {"prompt": "pixel art", "picture": image("guitar"), "share": 0.6}),
        WorldExample("A dog as the apple is drawn", {"prompt": "a dog", "picture": image("apple"), "share": 0.6}),
    ],
    "multi-context": [
        WorldExample("A cat and a rabbit", {"picture1": image("cat"), "picture2": image("rabbit")}),
        WorldExample("A picture and a text", {"picture1": image("house"), "prompt": "neon"}),
    ],
    "edit": [
        WorldExample("Make it a line drawing", {"picture": image("rabbit"), "prompt": "make it a line drawing"}),
        WorldExample("Make it 3D", {"picture": image("guitar"), "prompt": "make it 3D"}),
        WorldExample("A dog for the cat", {"picture": image("cat"), "remove": "cat", "add": "dog"}),
    ],
}
"""Examples by the studio's tasks."""
