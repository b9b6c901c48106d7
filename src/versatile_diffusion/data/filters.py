"""Which samples are wanted: what a data set says of them, and their sizes, as the paper filters (section 4.1)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from versatile_diffusion.data.problems import UnwantedSample

if TYPE_CHECKING:  # settings, which know these filters, are read before PyTorch is
    from versatile_diffusion.data.sample import Sample

SIMILARITY = (
    *("similarity", "clip_similarity", "clip_score", "clip_l14_similarity_score", "clip_b32_similarity_score"),
    *("clip_similarity_vitb32", "clip_similarity_vitl14"),
)
"""Columns that tell how well an image and its caption agree, in any case; the first one that is there counts."""
NSFW = ("punsafe", "nsfw", "nsfw_score", "p_nsfw", "unsafe_score")
WATERMARK = ("pwatermark", "watermark", "watermark_score", "p_watermark")

_TAGS = {"unlikely": 0.0, "unsure": 0.5, "nsfw": 1.0}
"""What LAION-400M writes in place of a probability."""


@dataclass(frozen=True)
class SampleFilters:
    """Bounds of what is wanted; None leaves one out. What nothing is known of is wanted.

    Attributes:
        min_similarity: cosine of image and caption that must be exceeded.
        max_nsfw: probability of being unsafe that a sample must stay below.
        max_watermark: probability of a watermark that it must stay below.
        min_aspect: least width by height.
        max_aspect: largest width by height.
        min_area: pixels that an image must have more than.
    """

    min_similarity: float | None = None
    max_nsfw: float | None = None
    max_watermark: float | None = None
    min_aspect: float | None = None
    max_aspect: float | None = None
    min_area: float | None = None

    def require(self, sample: Sample) -> None:
        """Raises UnwantedSample if a sample is out of bounds, as far as that is known without a model."""
        self.require_facts(sample.facts)
        self.require_sizes(sample.items)

    def require_facts(self, facts: Mapping[str, object]) -> None:
        """Raises UnwantedSample if what a data set says of a sample is out of bounds; nothing is decoded for that."""
        known = {name.lower(): value for name, value in facts.items()}
        self._require_above("min_similarity", "similarity", _number(known, SIMILARITY))
        for bound, told, columns in (("max_nsfw", "NSFW", NSFW), ("max_watermark", "watermark", WATERMARK)):
            most, found = getattr(self, bound), _number(known, columns)
            if most is not None and found is not None and found >= most:
                raise UnwantedSample(f"Its {told} is {found:.3g}, not below {most:g}.", bound)

    def require_sizes(self, items: Mapping[str, Iterable[object]]) -> None:
        """Raises UnwantedSample if an item with a height and a width has one that is out of bounds."""
        for item in (item for several in items.values() for item in several):
            shape: tuple[int, ...] = getattr(item, "shape", ())
            if len(shape) != 3:
                continue
            _, height, width = shape
            if self.min_aspect is not None and width < self.min_aspect * height:
                raise UnwantedSample(
                    f"Its width by height is below {self.min_aspect:g}: {width}×{height}.", "min_aspect"
                )
            if self.max_aspect is not None and width > self.max_aspect * height:
                raise UnwantedSample(
                    f"Its width by height is above {self.max_aspect:g}: {width}×{height}.", "max_aspect"
                )
            if self.min_area is not None and width * height <= self.min_area:
                raise UnwantedSample(f"It has no more than {self.min_area:g} pixels: {width}×{height}.", "min_area")

    def lacks_similarity(self, facts: Mapping[str, object]) -> bool:
        """Tells whether a similarity is asked for of which the data set says nothing."""
        known = {name.lower(): value for name, value in facts.items()}
        return self.min_similarity is not None and _number(known, SIMILARITY) is None

    def require_similarity(self, found: float | None) -> None:
        """Raises UnwantedSample if a similarity that was measured is too low."""
        self._require_above("min_similarity", "similarity to its caption", found)

    def _require_above(self, bound: str, told: str, found: float | None) -> None:
        least = getattr(self, bound)
        if least is not None and found is not None and found <= least:
            raise UnwantedSample(f"Its {told} is {found:.3g}, not above {least:g}.", bound)


PAPER = SampleFilters(0.3, 0.3, 0.3, 0.6, 1.67, 0.75 * 256**2)
"""Those of the paper's Laion2B-en."""


def _number(facts: Mapping[str, object], columns: Iterable[str]) -> float | None:
    """The number in the first of some columns that holds one."""
    for value in (facts[column] for column in columns if column in facts):
        if isinstance(value, str) and value.lower() in _TAGS:
            return _TAGS[value.lower()]
        if isinstance(value, str | int | float):
            with contextlib.suppress(ValueError):
                return float(value)
    return None
