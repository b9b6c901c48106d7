# pyright: strict
"""How an output was made, kept with it, and making it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from versatile_diffusion.modalities.image_spec import IMAGE

if TYPE_CHECKING:
    from PIL import Image


def png(image: Image.Image, words: Mapping[str, object] | None = None) -> bytes:
    """Returns an image as a PNG that says how it was made, each of the words as a text chunk of its own."""
    return IMAGE.codec.encode(image, {key: str(value) for key, value in (words or {}).items()})
