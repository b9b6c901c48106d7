"""Samples: every index of a part of the data set shows a cell somewhere in an image, in some size, with texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from versatile_diffusion.worlds.emoji.data.captions import Shown, texts_of
from versatile_diffusion.worlds.emoji.data.catalog import Catalog, Cell, treatments_of
from versatile_diffusion.worlds.emoji.data.split import EmojiSplit
from versatile_diffusion.worlds.emoji.data.treatments import COLORS, PLAIN

PLAIN_SHARE = 0.3
"""How many of the images are plain."""
SMALLEST, LARGEST = 0.85, 0.96
"""The side of a drawing, as shares of the image's."""
MOVED = 0.3
"""Of the room that a drawing leaves, the share within which it is moved about the middle. Texts do not tell places:
with all of the room, and sides from 0.7 on, most of what differed in latents was where things stood."""
SIZE = 128
"""Height and width of images in pixels."""


@dataclass(frozen=True)
class EmojiSample:
    """An image of the data set before it is drawn.

    Attributes:
        split, index: where in the data set it is.
        cell: what it shows.
        color: of the background, where the treatment has one.
        side: of the drawing, as a share of the image's.
        left, top: of the room beside the drawing, the shares that are to its left and above it.
        texts: see `texts_of`.
    """

    split: EmojiSplit
    index: int
    cell: Cell
    color: str
    side: float
    left: float
    top: float
    texts: tuple[str, ...]


class EmojiSamples:
    """The samples of a part of the data set. Item i depends on seed, part and i alone.

    Args:
        catalog: what there is to show.
        split: the part.
        seed: of all that is drawn at random.
    """

    def __init__(self, catalog: Catalog, split: EmojiSplit, seed: int) -> None:
        self.catalog, self.split, self.seed = catalog, split, seed
        self._pairs = catalog.strange_pairs if split is EmojiSplit.STRANGER else catalog.pairs

    def __getitem__(self, index: int) -> EmojiSample:
        rng = self._rng(index, 0)
        cell = self._cell(rng)
        color = list(COLORS)[int(rng.integers(len(COLORS)))]
        side = rng.uniform(SMALLEST, LARGEST)
        left, top = (0.5 + MOVED * (rng.random() - 0.5) for _ in range(2))
        texts = texts_of(Shown(cell.thing, cell.hand, cell.treatment, color), rng)
        return EmojiSample(self.split, index, cell, color, side, left, top, tuple(texts))

    def draw(self, index: int, size: int = SIZE) -> UInt8[np.ndarray, "size size 3"]:
        """Returns the image of a sample.

        Raises:
            ImportError: if resvg-py is not installed.
        """
        sample = self[index]
        side = round(size * sample.side)
        drawing = np.zeros((size, size, 4), dtype=np.uint8)
        top, left = (round((size - side) * share) for share in (sample.top, sample.left))
        artwork = self.catalog.artwork(sample.cell.thing, sample.cell.hand)
        drawing[top : top + side, left : left + side] = artwork.draw(side)
        return sample.cell.treatment.draw(drawing, sample.color, self._rng(index, 1))

    def _cell(self, rng: np.random.Generator) -> Cell:
        """Draws until there is a cell of this part; half of the held-out ones are so by their hand."""
        by_hand = rng.random() < 0.5
        while True:
            thing, hand = self._pairs[int(rng.integers(len(self._pairs)))]
            treated = treatments_of(thing)[1:]
            plain = rng.random() < PLAIN_SHARE or not treated
            cell = Cell(thing, hand, PLAIN if plain else treated[int(rng.integers(len(treated)))])
            if self.split is EmojiSplit.STRANGER:
                return Cell(thing, hand, PLAIN)
            if self.split.is_learnt_from:
                if not cell.is_held_out:
                    return cell
            elif cell.holds_out_hand if by_hand else cell.holds_out_treatment:
                return cell

    def _rng(self, index: int, part: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, list(EmojiSplit).index(self.split), index, part))
