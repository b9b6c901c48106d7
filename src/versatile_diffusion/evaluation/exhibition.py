"""A contact sheet of what a model made, with the texts under the images."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from versatile_diffusion.evaluation.contact_sheet import contact_sheet

_SIDE, _GAP = 128, 6
_TITLE, _TEXT = ImageFont.load_default(14), ImageFont.load_default(11)
_HEAD, _LINE, _LETTER = 28, 13, 6.2  # pixels
_INK, _PAPER = (40, 40, 40), (255, 255, 255)


@dataclass(frozen=True)
class Exhibit:
    """Pictures side by side, shown 128 pixels high, over a text."""

    images: tuple[Image.Image, ...]
    text: str

    @property
    def width(self) -> int:
        """In pixels; a text alone is as wide as two pictures."""
        count = len(self.images) or 2
        return count * _SIDE + (count - 1) * _GAP

    @property
    def lines(self) -> list[str]:
        """The text in lines that fit."""
        wide = int(self.width / _LETTER)
        return [line for part in self.text.splitlines() for line in textwrap.wrap(part, wide)]

    def draw(self, lines: int) -> Image.Image:
        """Returns the picture of it, with space for so many lines."""
        top = _SIDE + 2 if self.images else 0
        drawn = Image.new("RGB", (self.width, top + lines * _LINE), _PAPER)
        for i, image in enumerate(self.images):
            drawn.paste(image.resize((_SIDE, _SIDE), Image.Resampling.NEAREST), (i * (_SIDE + _GAP), 0))
        ImageDraw.Draw(drawn).multiline_text((0, top), "\n".join(self.lines), _INK, _TEXT, spacing=1)
        return drawn


@dataclass(frozen=True)
class Section:
    """Exhibits of one kind, some of them to a row."""

    title: str
    exhibits: Sequence[Exhibit]
    columns: int

    def draw(self) -> Image.Image:
        """Returns the picture of it, under its title."""
        lines = max(len(exhibit.lines) for exhibit in self.exhibits)
        drawn = [np.asarray(exhibit.draw(lines)) for exhibit in self.exhibits]
        grid = contact_sheet(drawn, self.columns, padding=_GAP)
        section = Image.new("RGB", (grid.width, grid.height + _HEAD), _PAPER)
        ImageDraw.Draw(section).text((_GAP, _GAP), self.title, _INK, _TITLE)
        section.paste(grid, (0, _HEAD))
        return section


def exhibition(sections: Sequence[Section]) -> Image.Image:
    """Returns all sections, one below the other."""
    drawn = [section.draw() for section in sections]
    sheet = Image.new("RGB", (max(d.width for d in drawn), sum(d.height for d in drawn)), _PAPER)
    top = 0
    for section in drawn:
        sheet.paste(section, (0, top))
        top += section.height
    return sheet
