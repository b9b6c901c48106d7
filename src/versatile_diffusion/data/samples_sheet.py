"""Samples of a data set as one image, to see what belongs to what."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from versatile_diffusion.data.sample import Sample
from versatile_diffusion.lettering import letters
from versatile_diffusion.modalities.images import to_pil

_SIDE, _WORDS, _MARGIN, _LINE, _LETTERS = 256, 520, 16, 20, 64


def samples_sheet(samples: Sequence[Sample]) -> Image.Image:
    """Draws samples one below the other: their images, and beside these their names and texts."""
    sheet = Image.new("RGB", (_SIDE + _WORDS + 3 * _MARGIN, len(samples) * (_SIDE + _MARGIN) + _MARGIN), "white")
    draw, font = ImageDraw.Draw(sheet), letters(13)
    for number, sample in enumerate(samples):
        top = _MARGIN + number * (_SIDE + _MARGIN)
        items = [item for several in sample.items.values() for item in several]
        image = next((to_pil(item) for item in items if isinstance(item, Tensor) and item.ndim == 3), None)
        if image is not None:
            scale = _SIDE / max(image.size)
            side = tuple(max(1, round(length * scale)) for length in image.size)
            kind = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
            sheet.paste(image.resize((side[0], side[1]), kind), (_MARGIN, top))
        texts = [line for item in items if isinstance(item, str) for line in textwrap.wrap(f"– {item}", _LETTERS)]
        lines = [sample.key[-_LETTERS:], *texts][: _SIDE // _LINE]
        for place, line in enumerate(lines):
            draw.text((_SIDE + 2 * _MARGIN, top + place * _LINE), line, "#555" if place == 0 else "black", font=font)
    return sheet
