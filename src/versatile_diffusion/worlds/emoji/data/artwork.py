"""Drawings as packages hold them, and how they become pixels."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict

from versatile_diffusion.extras import extra
from versatile_diffusion.worlds.emoji.data.treatments import Drawing


class Artwork(ABC):
    """A drawing of a thing by a hand."""

    @abstractmethod
    def draw(self, side: int) -> Drawing:
        """Returns the drawing with transparency in a square of so many pixels, uint8 (side side 4)."""


@dataclass(frozen=True)
class SvgArtwork(Artwork):
    """A drawing in SVG.

    Attributes:
        text: the whole SVG.
    """

    text: str

    def draw(self, side: int) -> Drawing:
        """See `Artwork.draw`.

        Raises:
            ImportError: if resvg-py is not installed.
        """
        with extra("emoji", "drawing SVG"):
            from resvg_py import svg_to_bytes
        png = svg_to_bytes(svg_string=self.text, width=side, height=side, skip_system_fonts=True)
        return _square(Image.open(io.BytesIO(bytes(png))), side)


@dataclass(frozen=True)
class ImageArtwork(Artwork):
    """A drawing in pixels.

    Attributes:
        content: a file in any format that PIL opens.
    """

    content: bytes

    def draw(self, side: int) -> Drawing:
        """See `Artwork.draw`."""
        image = Image.open(io.BytesIO(self.content)).convert("RGBA")
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        return _square(image, side)


class Icon(BaseModel):
    """An icon as Iconify keeps it; what is missing is the set's."""

    model_config = ConfigDict(extra="ignore")

    body: str
    left: float | None = None
    top: float | None = None
    width: float | None = None
    height: float | None = None


class Alias(BaseModel):
    """Another name of an icon; one that is turned or mirrored is another picture."""

    model_config = ConfigDict(extra="ignore")

    parent: str
    rotate: int = 0
    hFlip: bool = False
    vFlip: bool = False


class IconSet(BaseModel):
    """The file icons.json of a set of Iconify."""

    model_config = ConfigDict(extra="ignore")

    icons: dict[str, Icon]
    aliases: dict[str, Alias] = {}
    left: float = 0
    top: float = 0
    width: float = 16
    height: float = 16

    def artwork(self, slug: str) -> Artwork | None:
        """Returns the drawing of that name, or None if there is none."""
        for _ in range(4):  # an alias may be one of an alias
            alias = self.aliases.get(slug)
            if slug in self.icons or alias is None or alias.rotate or alias.hFlip or alias.vFlip:
                break
            slug = alias.parent
        icon = self.icons.get(slug)
        if icon is None:
            return None
        left, top, width, height = (
            own if own is not None else shared
            for own, shared in (
                (icon.left, self.left),
                (icon.top, self.top),
                (icon.width, self.width),
                (icon.height, self.height),
            )
        )
        return SvgArtwork(
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left:g} {top:g} {width:g} {height:g}">{icon.body}</svg>'
        )


def _square(image: Image.Image, side: int) -> Drawing:
    """An image in the middle of a transparent square."""
    square = Image.new("RGBA", (side, side))
    square.paste(image.convert("RGBA"), ((side - image.width) // 2, (side - image.height) // 2))
    return np.asarray(square)
