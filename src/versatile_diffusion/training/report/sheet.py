"""A preview as one image: of each flow the originals, and below them what the model makes of the same contexts."""

from __future__ import annotations

import textwrap

from PIL import Image, ImageDraw
from torch import Tensor

from versatile_diffusion.lettering import letters
from versatile_diffusion.modalities.images import resize, to_pil
from versatile_diffusion.training.loop.task import Preview

_WIDTH, _MARGIN, _LINE = 1040, 16, 20
_LETTERS = 120
_SMALLEST = 96
"""Pixels that an image has on a sheet at least, where it is smaller."""


def preview_sheet(preview: Preview, title: str) -> Image.Image:
    """Draws a preview, one block below the other.

    Args:
        preview: images and texts by the names of flows.
        title: at the top.
    """
    blocks = [_words(title, bold=True)]
    for name, shown in preview.items():
        blocks += [_words(name, bold=True), _words(shown) if isinstance(shown, str) else _pictures(shown)]
    height = sum(block.height + _MARGIN for block in blocks) + _MARGIN
    sheet = Image.new("RGB", (max(block.width for block in blocks) + 2 * _MARGIN, height), "white")
    top = _MARGIN
    for block in blocks:
        sheet.paste(block, (_MARGIN, top))
        top += block.height + _MARGIN
    return sheet


def _pictures(rows: Tensor) -> Image.Image:
    """Two rows of images, enlarged if they are small, and brought to the width of the sheet if they are large."""
    height, width = rows.shape[-2:]
    scale = max(1.0, 2 * _SMALLEST / height)
    scale = min(scale, _WIDTH / width)
    image = to_pil(rows)
    if scale < 1:
        return to_pil(resize(rows, round(height * scale), round(width * scale)))
    return image.resize((int(width * scale), int(height * scale)), Image.Resampling.NEAREST)


def _words(text: str, bold: bool = False) -> Image.Image:
    lines = [line for part in text.splitlines() if part.strip() for line in textwrap.wrap(part, _LETTERS)] or [""]
    image = Image.new("RGB", (_WIDTH, _LINE * len(lines) + 4), "white")
    draw = ImageDraw.Draw(image)
    font = letters(15 if bold else 13)
    for number, line in enumerate(lines):
        draw.text((0, _LINE * number), line, "black" if bold else "#333", font=font)
    return image
