# pyright: strict
"""A grid of pictures with labels, as one picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_SMALLEST, _GAP, _LINE = 128, 6, 22  # pixels
_INK, _PAPER = (40, 40, 40), (255, 255, 255)


def labelled_grid(
    rows: Sequence[Sequence[Image.Image]], row_labels: Sequence[str], column_labels: Sequence[str]
) -> Image.Image:
    """Lays pictures of one size out; small ones are enlarged by whole pixels, so that the labels fit.

    Args:
        rows: as many pictures in each.
        row_labels: to the left of each row; "" leaves it out.
        column_labels: above each column; "" leaves it out.
    """
    font = ImageFont.load_default(14)
    scale = -(-_SMALLEST // rows[0][0].width)
    width, height = (scale * side for side in rows[0][0].size)
    left = max(int(font.getlength(label)) for label in row_labels) + 2 * _GAP if any(row_labels) else _GAP
    top = _LINE if any(column_labels) else _GAP
    size = (left + len(rows[0]) * (width + _GAP), top + len(rows) * (height + _GAP))
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, label in enumerate(column_labels):
        draw.text((left + column * (width + _GAP) + width / 2, top / 2), label, _INK, font, anchor="mm")
    for row, (label, images) in enumerate(zip(row_labels, rows, strict=True)):
        y = top + row * (height + _GAP)
        draw.text((_GAP, y + height / 2), label, _INK, font, anchor="lm")
        for column, image in enumerate(images):
            sheet.paste(image.resize((width, height), Image.Resampling.NEAREST), (left + column * (width + _GAP), y))
    return sheet
