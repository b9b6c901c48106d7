"""Why the engine does not take a job. The messages are for users."""

from __future__ import annotations


class NotTaken(Exception):
    """A job cannot be taken."""


class Busy(NotTaken):
    """A job cannot be taken now.

    Attributes:
        retry_after: seconds after which there may be room.
    """

    def __init__(self, why: str, retry_after: int) -> None:
        super().__init__(f"{why}: try again in {retry_after} s.")
        self.retry_after = retry_after


class TooLong(NotTaken):
    """A job would take longer than any may."""


class Closed(NotTaken):
    """No job can be taken any more."""
