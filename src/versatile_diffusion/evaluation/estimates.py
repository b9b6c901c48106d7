"""Figures with their uncertainty: how far they would move on other samples of the same kind (bootstrap)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

_WIDTH = 1.959964  # standard errors on either side of the value that hold 95 % of a normal distribution
_DRAWS = 0x626F6F74  # keeps these draws apart from all others


@dataclass(frozen=True)
class Estimate:
    """A figure and its standard error.

    Attributes:
        value: of all samples.
        error: the spread of the values of many draws of the samples; None if there were fewer than two draws.
    """

    value: float
    error: float | None = None

    @classmethod
    def of(cls, value: float, drawn: Sequence[float] | Float[ndarray, " times"]) -> Estimate:
        """Returns the estimate of a figure from its values on draws of the samples."""
        return cls(float(value), float(np.std(drawn, ddof=1)) if len(drawn) > 1 else None)

    @classmethod
    def of_mean(cls, scores: Float[ndarray, " n"], draws: Int[ndarray, "times n"]) -> Estimate:
        """Returns the estimate of the mean of a score that every sample has by itself."""
        return cls.of(float(scores.mean()), draws @ scores / len(scores))

    @property
    def interval(self) -> tuple[float, float] | None:
        """What holds the figure with 95 % confidence, if that is known: so many standard errors around the value.

        It is not made of the draws' own quantiles, because drawing samples twice raises distances between sets.
        """
        return None if self.error is None else (self.value - _WIDTH * self.error, self.value + _WIDTH * self.error)

    def as_dict(self) -> dict[str, object]:
        """Returns the value and the ends of its interval as JSON can hold them."""
        low, high = self.interval or (None, None)
        return {"value": self.value, "low": low, "high": high}


def bootstrap(count: int, times: int, seed: int) -> Int[ndarray, "times n"]:
    """Returns how often each of so many samples is drawn, each time as many as there are, with replacement."""
    return np.random.default_rng((_DRAWS, seed)).multinomial(count, np.full(count, 1 / count), size=times)
