"""Previews: what a model makes, beside what it should be like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

PREVIEWED = 8
"""Samples in a preview."""


def side_by_side(originals: Sequence[Any], made: Sequence[Any]) -> Tensor | str:
    """Returns pictures (3 h w) as a row of originals over a row of made ones; other items as lines of text."""
    if isinstance(originals[0], Tensor) and originals[0].ndim == 3:
        return torch.cat([torch.cat([item.cpu().float() for item in row], dim=2) for row in (originals, made)], dim=1)
    return "\n\n".join(f"{a} → {b}" for a, b in zip(originals, made, strict=True))
