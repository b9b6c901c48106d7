"""Why a sample is left out."""

from __future__ import annotations


class BadSample(ValueError):
    """A sample cannot be learnt from; the message says why."""


class UnwantedSample(BadSample):
    """A sample could be learnt from, but a filter leaves it out.

    Attributes:
        filter: the setting that does, such as "min_similarity".
    """

    def __init__(self, message: str, filter: str) -> None:
        super().__init__(message)
        self.filter = filter
