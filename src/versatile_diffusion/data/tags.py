"""Captions that are tags with commas between them, as contexts learn them: in any order, and not always all of them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

VARIANTS = 4
"""Ways in which a caption is written, from which a step draws one."""


@dataclass(frozen=True)
class CaptionTags:
    """How the tags of captions are varied.

    Attributes:
        shuffled: whether they come in an order that is drawn.
        dropout: share of them that is left out; of each caption one stays.
        kept: so many at the beginning stay there, and are never left out.
    """

    shuffled: bool = False
    dropout: float = 0.0
    kept: int = 0

    @property
    def are_varied(self) -> bool:
        """Whether anything is changed at all."""
        return self.shuffled or self.dropout > 0

    def variants(self, caption: str, seed: str) -> list[str]:
        """Returns a caption in `VARIANTS` ways, drawn by a seed; where it has no comma, they are all the same."""
        draws = Random(seed)
        return [self._variant(caption, draws) for _ in range(VARIANTS)]

    def _variant(self, caption: str, draws: Random) -> str:
        tags = [tag for tag in map(str.strip, caption.split(",")) if tag]
        if len(tags) < 2:
            return caption
        fixed, free = tags[: self.kept], tags[self.kept :]
        left = [tag for tag in free if draws.random() >= self.dropout]
        if not fixed and not left:
            left = [draws.choice(free)]
        if self.shuffled:
            draws.shuffle(left)
        return ", ".join(fixed + left)
