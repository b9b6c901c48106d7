"""Pictures as files that say how they were made."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image


def png(picture: Image.Image, recipe: Mapping[str, Any] | None = None) -> bytes:
    """A picture as a PNG that says how it was made, each entry of the recipe as a text chunk of its own."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in (recipe or {}).items():
        info.add_text(key, str(value))
    file = io.BytesIO()
    picture.save(file, "PNG", pnginfo=info)
    return file.getvalue()
