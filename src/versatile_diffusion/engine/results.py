"""What comes back from the engine: outputs, or why there are none."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from PIL import Image

from versatile_diffusion.provenance.record import BatchRecord, Computed

_LONGEST = 1000
"""Characters of a message, which should fit on a screen whatever a user's words that it repeats."""


@dataclass(frozen=True)
class JobResult:
    """What a job gave.

    Attributes:
        items: one for each seed: images of PIL, texts or whatever the modality makes.
        guidance_scale: the one that was used.
        notes: what the user should know, such as words that the text encoder does not know.
        computed: what computed the items.
        batch: the batch that they were made in, with the place of the first of them.
        written: of an edit, the rewritten description that the items were painted from.
    """

    items: Sequence[object]
    guidance_scale: float
    notes: tuple[str, ...] = ()
    computed: Computed | None = None
    batch: BatchRecord = field(default_factory=BatchRecord)
    written: str | None = None

    @property
    def size(self) -> int:
        """How many bytes the items take."""
        return sum(map(_bytes, self.items))


class Reason(StrEnum):
    """Why a job gave nothing."""

    INVALID = "invalid"
    CRASHED = "crashed"
    TIMEOUT = "timeout"
    CLOSED = "closed"


@dataclass(frozen=True)
class Failure:
    """Why a job gave nothing, in words for the user."""

    reason: Reason
    message: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """A failure of a computation. What the pipeline says of its arguments is for the user; the rest is not."""
        if isinstance(error, BatchFailed):
            return error.failure
        if isinstance(error, ValueError | TypeError):
            return cls(Reason.INVALID, shortened(str(error)))
        return cls(Reason.CRASHED, f"The computation failed ({type(error).__name__}); the server's log says where.")


class BatchFailed(RuntimeError):
    """A batch gave nothing at all, for a reason that is known."""

    def __init__(self, failure: Failure, details: str = "") -> None:
        super().__init__(details or failure.message)
        self.failure = failure


def shortened(message: str) -> str:
    """A message that fits on a screen: of a longer one, its beginning."""
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]} …"


def _bytes(item: object) -> int:
    """How many bytes an item takes in memory, about."""
    match item:
        case str():
            return len(item)
        case Image.Image():
            return item.width * item.height * len(item.getbands())
        case _:
            size = getattr(item, "nbytes", None)  # of a tensor or an array
            return size if isinstance(size, int) else sys.getsizeof(item)
