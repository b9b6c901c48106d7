"""The letters that sheets are written in."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

_DEJAVU = Path("mpl-data", "fonts", "ttf", "DejaVuSans.ttf")


@cache
def letters(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Returns a font: matplotlib's, which has most alphabets, or else PIL's own."""
    found = find_spec("matplotlib")
    file = None if found is None or found.origin is None else Path(found.origin).parent / _DEJAVU
    if file is None or not file.is_file():
        return ImageFont.load_default(size)
    return ImageFont.truetype(str(file), size)
