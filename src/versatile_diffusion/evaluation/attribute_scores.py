"""Scores of what comes through of the attributes that images show and texts name, counted attribute by attribute.

An attribute is anything that has a name and one of several values, such as the place that an image shows. What reads
them, a classifier of images or a parser of texts, is a world's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

Attributes = Mapping[str, str]
"""The value of some or all attributes by their names."""


@dataclass(frozen=True)
class Score:
    """Shares in [0, 1] of what was counted, or None where there was nothing to count.

    Attributes:
        accuracy: of all attributes together.
        per_attribute: of each attribute by its name.
    """

    accuracy: float | None
    per_attribute: dict[str, float | None]


@dataclass(frozen=True)
class CaptionScore(Score):
    """How well captions describe their images. Accuracy counts the attributes that a caption names.

    Attributes:
        coverage: share of all attributes that are named.
        strict_accuracy: share of all attributes that are named, and rightly so.
    """

    coverage: float | None
    strict_accuracy: float | None


@dataclass(frozen=True)
class VariationScore(Score):
    """How well variations of images keep what these show.

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


def score(expected: Sequence[Attributes], found: Sequence[Attributes], names: Iterable[str]) -> Score:
    """Returns the share of the expected attributes that were found with the expected value.

    Args:
        expected: the attributes of each item.
        found: what was found of the same items.
        names: all attributes that there are, in the order of the result.

    Raises:
        ValueError: if there are not as many of one as of the other.
    """
    counted: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for wanted, got in zip(expected, found, strict=True):
        counted.update(list(wanted))
        right.update(name for name, value in wanted.items() if got.get(name) == value)
    return Score(_share(right.total(), counted.total()), {name: _share(right[name], counted[name]) for name in names})


def score_captions(named: Sequence[Attributes], truths: Sequence[Attributes], names: Iterable[str]) -> CaptionScore:
    """Scores captions of images.

    Args:
        named: the attributes that each caption names.
        truths: what each image shows.
        names: see `score`.
    """
    share = score(named, truths, names)
    coverage = _share(sum(map(len, named)), sum(map(len, truths)))
    return CaptionScore(share.accuracy, share.per_attribute, coverage, score(truths, named, ()).accuracy)


def score_rewrites(
    before: Sequence[Attributes], after: Sequence[Attributes], unchanged: Sequence[bool], names: Iterable[str]
) -> RewriteScore:
    """Scores variations of texts.

    Args:
        before: the attributes that each text names.
        after: those that its variation names.
        unchanged: whether the variation is the text again.
        names: see `score`.
    """
    kept = score(before, after, names)
    pairs = list(zip(before, after, strict=True))
    contradicted = sum(new.get(name, old[name]) != old[name] for old, new in pairs for name in old)
    invented = sum(name not in old for old, new in pairs for name in new)
    return RewriteScore(
        kept.accuracy,
        kept.per_attribute,
        _share(contradicted, sum(map(len, before))),
        _share(invented, sum(map(len, after))),
        sum(unchanged) / len(unchanged),
    )


def diversity(
    images: Float[Tensor, "n 3 h w"], variations: Float[Tensor, "n 3 h w"], redrawn: Float[Tensor, "n 3 h w"]
) -> float:
    """Returns how far variations are from copies: their mean difference to the images, divided by that of `redrawn`.

    Args:
        images: that were varied.
        variations: one of each image.
        redrawn: each image drawn again, with the same attributes and other free variation.

    Returns:
        0 for copies, and about 1 for variations that differ as much as another drawing of the same thing.
    """
    return ((variations - images).abs().mean() / (redrawn - images).abs().mean()).item()


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
