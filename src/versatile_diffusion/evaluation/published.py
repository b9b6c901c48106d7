"""Figures of the paper, to read one's own beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SOURCE = "Versatile Diffusion (arXiv 2211.08332): FID of 30,000 samples of COCO's captions, validation"


@dataclass(frozen=True)
class PublishedFigure:
    """A figure that was published.

    Attributes:
        system: what was measured.
        value: of the measure.
        spread: that was given with it.
    """

    system: str
    value: float
    spread: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ± {self.spread:.2f} ({self.system})"


PUBLISHED: Mapping[tuple[str, str], tuple[PublishedFigure, ...]] = {
    ("text-to-image", "FID"): (
        PublishedFigure("VD, four flows", 11.10, 0.09),
        PublishedFigure("Stable Diffusion v1.4", 11.21, 0.03),
    ),
    ("image-variation", "FID"): (
        PublishedFigure("VD, four flows", 4.57, 0.02),
        PublishedFigure("SD-variation", 18.81, 0.06),
    ),
}
"""By the names of flows and measures."""
