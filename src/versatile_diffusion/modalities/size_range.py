"""Sizes of outputs in pixels, where size means something: what a model was trained at, and how far beyond it goes."""

from __future__ import annotations

import math
from dataclasses import dataclass

_BEYOND = 4
"""Times the area of training that a model reaches where it does not say: things appear twice from there on."""
_AS_ASKED = 2
"""Times the area of training up to which a size is as good as that of training."""
_NARROWEST = 16
"""Times the shorter side that the longer one may have, as pictures of clients go."""
_SPREAD = 1.2
_AREA_COUNTS = 0.2
"""How much a wrong area weighs against a wrong aspect."""
_LONGEST = 4
"""Times the side of a square that a side may have."""


@dataclass(frozen=True)
class SizeRange:
    """Sizes that a model makes well.

    Attributes:
        native: height and width of training, in pixels; what is made where the user gives no size.
        multiple: height and width of every output are divisible by it.
        largest_area: pixels beyond which outputs fall apart.
    """

    native: int
    multiple: int
    largest_area: int

    @classmethod
    def of(cls, native: int, multiple: int = 1, largest_area: int | None = None) -> SizeRange:
        """Returns the sizes of a model; without a largest area it is four times the area of training."""
        return cls(native, multiple, largest_area or _BEYOND * native**2)

    @property
    def longest(self) -> int:
        """The longest side, in pixels: thin outputs cost more than their area says."""
        return longest_side(self.largest_area)

    def nearest(self, height: int, width: int) -> tuple[int, int]:
        """Returns the height and width that stand best for a size that may be any, such as one that a client sends.

        A size of up to twice the area of training stays as it is, if the model can make it. Any other becomes one of
        about the area of training, in the aspect that is nearest.
        """
        area, step = self.native**2, self.multiple
        if height % step == width % step == 0 and area <= height * width <= _AS_ASKED * area:
            return height, width
        aspect = min(max(width / height, 1 / _NARROWEST), _NARROWEST)
        steps = math.sqrt(area / aspect) / step
        tried = range(max(1, math.floor(steps / _SPREAD)), math.ceil(steps * _SPREAD) + 1)
        sizes = [(count * step, max(1, round(count * aspect)) * step) for count in tried]

        def mismatch(size: tuple[int, int]) -> float:
            made, beside = size
            return abs(math.log(beside / made / aspect)) + _AREA_COUNTS * abs(math.log(made * beside / area))

        return min(sizes, key=mismatch)

    def far_beyond(self, height: int | None, width: int | None) -> str | None:
        """Returns what to tell of a size that is far beyond what the model makes well; None if there is nothing."""
        rows, columns = height or self.native, width or self.native
        if rows * columns <= self.largest_area and max(rows, columns) <= self.longest:
            return None
        return (
            f"{columns} × {rows} pixels are far more than the {self.native} × {self.native} this model was trained "
            f"at: it repeats itself from {self.largest_area} pixels on. Make a smaller output, and enlarge it."
        )


def longest_side(area: int) -> int:
    """Returns the longest side that an output may have where it may have so many pixels."""
    return int(_LONGEST * math.sqrt(area))
