"""Scores: how many attributes of a postcard come through, counted attribute by attribute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from versatile_diffusion.worlds.postcards import ATTRIBUTES, parse
from versatile_diffusion.worlds.postcards.captions import STOP, tokenize

Attributes = Mapping[str, str]
"""Attribute name -> value, for some or all of `ATTRIBUTES`."""


@dataclass(frozen=True)
class Score:
    """Shares in [0, 1], over all that was counted; None where nothing was.

    Attributes:
        accuracy: of all attributes together.
        per_attribute: of each.
    """

    accuracy: float | None
    per_attribute: dict[str, float | None]


@dataclass(frozen=True)
class CaptionScore(Score):
    """How well captions describe their pictures. Accuracy counts the attributes that a caption names.

    Attributes:
        coverage: share of all attributes that are named.
        strict_accuracy: share of all attributes that are named, and rightly so.
    """

    coverage: float | None
    strict_accuracy: float | None


@dataclass(frozen=True)
class VariationScore(Score):
    """How well variations of pictures keep what these show.

    Attributes:
        diversity: how far they are from copies; see `diversity`.
    """

    diversity: float


@dataclass(frozen=True)
class RewriteScore(Score):
    """How well variations of texts keep what these say. Accuracy counts the attributes that the input names.

    Attributes:
        contradicted: share of the attributes named by the input that the output names with another value.
        invented: share of the attributes named by the output that the input does not name.
        unchanged: share of the outputs that are the input again, but for case, spaces and the final stop.
    """

    contradicted: float | None
    invented: float | None
    unchanged: float


def score(expected: Sequence[Attributes], found: Sequence[Attributes]) -> Score:
    """The share of the expected attributes that were found with the expected value.

    Raises:
        ValueError: if there are not as many of one as of the other.
    """
    counted: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for wanted, got in zip(expected, found, strict=True):
        counted.update(list(wanted))
        right.update(name for name, value in wanted.items() if got.get(name) == value)
    return Score(
        _share(right.total(), counted.total()), {name: _share(right[name], counted[name]) for name in ATTRIBUTES}
    )


def score_captions(texts: Sequence[str], truths: Sequence[Attributes]) -> CaptionScore:
    """Scores captions of pictures against what the pictures show."""
    named = [parse(text) for text in texts]
    share = score(named, truths)
    coverage = _share(sum(map(len, named)), sum(map(len, truths)))
    return CaptionScore(share.accuracy, share.per_attribute, coverage, score(truths, named).accuracy)


def score_rewrites(inputs: Sequence[str], outputs: Sequence[str]) -> RewriteScore:
    """Scores variations of texts against the texts."""
    before, after = [parse(text) for text in inputs], [parse(text) for text in outputs]
    kept = score(before, after)
    pairs = list(zip(before, after, strict=True))
    contradicted = sum(new.get(name, old[name]) != old[name] for old, new in pairs for name in old)
    invented = sum(name not in old for old, new in pairs for name in new)
    same = sum(_normalized(a) == _normalized(b) for a, b in zip(inputs, outputs, strict=True))
    return RewriteScore(
        kept.accuracy,
        kept.per_attribute,
        _share(contradicted, sum(map(len, before))),
        _share(invented, sum(map(len, after))),
        same / len(inputs),
    )


def diversity(
    pictures: Float[Tensor, "n 3 h w"], variations: Float[Tensor, "n 3 h w"], redrawn: Float[Tensor, "n 3 h w"]
) -> float:
    """How far variations are from copies: their mean absolute difference to the pictures, divided by that of `redrawn`.

    Args:
        pictures: that were varied.
        variations: one of each.
        redrawn: each picture drawn again: the same attributes, other free variation.

    Returns:
        0 for copies; about 1 for variations that differ as much as another drawing of the same scene.
    """
    return ((variations - pictures).abs().mean() / (redrawn - pictures).abs().mean()).item()


def _normalized(text: str) -> list[str]:
    tokens = tokenize(text)
    return tokens[:-1] if tokens[-1:] == [STOP] else tokens


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
