"""What a user conditions on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # PyTorch takes seconds, which what only asks need not wait for
    from torch import Tensor


@dataclass(frozen=True)
class Context:
    """One condition: data of a modality, or its embedding.

    Attributes:
        modality: "text", "image" or the name of another modality of the pipeline.
        data: a text, a picture or whatever the modality reads; a list is a batch.
        embedding: context tokens (b n d) instead of data.
        weight: share in the mixture, relative to the other contexts'. At 0 the context is left out.
        mask: for pictures given as data; what is to be seen is 1 (or white), what is not is 0.
        focus: for pictures; 0 keeps semantics, 1 keeps style, 0.5 keeps both.
        unconditional: what stands for "no condition" in guidance: the official choice ("default"), "zeros", or an
            embedding (1 n d) or (b n d).

    Raises:
        ValueError: if a value is out of range, or both or neither of data and embedding are given.
    """

    modality: str
    data: Any = None
    _: KW_ONLY
    embedding: Tensor | None = None
    weight: float = 1.0
    mask: Any = None
    focus: float = 0.5
    unconditional: str | Tensor = "default"

    def __post_init__(self) -> None:
        if (self.data is None) == (self.embedding is None):
            raise ValueError(f"A {self.modality} context needs either data or an embedding.")
        if self.mask is not None and self.data is None:
            raise ValueError(f"A mask hides parts of data: give the {self.modality} context data, not an embedding.")
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"The weight of a context must be 0 or more, got {self.weight}.")
        if not 0 <= self.focus <= 1:
            raise ValueError(f"focus must lie between 0 (semantics) and 1 (style), got {self.focus}.")
        if isinstance(self.unconditional, str) and self.unconditional not in ("default", "zeros"):
            raise ValueError(f'unconditional must be "default", "zeros" or an embedding, got {self.unconditional!r}.')


def as_sequence(contexts: Context | Sequence[Context]) -> Sequence[Context]:
    """One context as a sequence of one, several as they are."""
    return [contexts] if isinstance(contexts, Context) else contexts
