"""How well captions agree with those that people wrote: BLEU, ROUGE-L and CIDEr-D, as COCO's evaluation defines them.

Captions are lists of words here; see `tokens.caption_tokens`. BLEU's counts are torchmetrics'. Its ROUGE-L is another
measure (it takes precision and recall of the best single reference, and weighs them alike), and it has no CIDEr-D.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import e, log

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from versatile_diffusion.extras import require

Words = Sequence[str]

NGRAMS = 4
"""Words of the longest phrases that are compared."""

_RECALL = 1.2  # ROUGE-L's beta: how much more recall counts than precision
_SIGMA = 6.0  # CIDEr-D's, of the penalty of lengths, in words
_SCALE = 10.0  # CIDEr-D's


def bleu_counts(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> Float[ndarray, "n counts"]:
    """Returns what BLEU counts of each caption.

    Args:
        candidates: the captions that are measured.
        references: those of people, one or more of each.

    Returns:
        The phrases of 1 … 4 words that agree, then those there are, then the words of the caption and of the reference
        that is nearest in length; of two, the shorter one.

    Raises:
        ImportError: if torchmetrics is not installed.
    """
    require("torchmetrics", "Evaluation", "evaluate")
    from torchmetrics.text import BLEUScore

    rows = np.zeros((len(candidates), 2 * NGRAMS + 2))
    for row, candidate, others in zip(rows, candidates, references, strict=True):
        metric = BLEUScore(NGRAMS)
        metric.update([" ".join(candidate)], [[" ".join(other) for other in sorted(others, key=len)]])
        counted = (*metric.numerator, *metric.denominator, metric.preds_len, metric.target_len)
        row[:] = list(map(float, counted))
    return rows


def bleu(counts: Float[ndarray, "*times counts"], ngrams: int) -> Float[ndarray, "*times"]:
    """Returns BLEU of phrases of up to so many words, from the sums of `bleu_counts` over many captions."""
    agreeing, there = counts[..., :ngrams], counts[..., NGRAMS : NGRAMS + ngrams]
    length, wanted = counts[..., -2], counts[..., -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.exp(np.log(agreeing / there).mean(-1))
        brevity = np.exp(np.minimum(1 - wanted / length, 0))
    return np.where((agreeing > 0).all(-1), brevity * mean, 0.0)


def rouge_l(candidate: Words, references: Sequence[Words]) -> float:
    """Returns ROUGE-L of a caption: the best precision and the best recall of common subsequences, recall first."""
    if not candidate:
        return 0.0
    common = [(longest_common(candidate, other), len(other)) for other in references if other]
    precision = max((length / len(candidate) for length, _ in common), default=0.0)
    recall = max((length / words for length, words in common), default=0.0)
    if not precision or not recall:
        return 0.0
    return (1 + _RECALL**2) * precision * recall / (recall + _RECALL**2 * precision)


def longest_common(a: Words, b: Words) -> int:
    """Returns how many words the longest common subsequence has."""
    row = [0] * (len(b) + 1)
    for word in a:
        above = 0  # of the row before, one to the left
        for place, other in enumerate(b, 1):
            kept, row[place] = row[place], above + 1 if word == other else max(row[place], row[place - 1])
            above = kept
    return row[-1]


def cider_d(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> Float[ndarray, " n"]:
    """Returns CIDEr-D of each caption (arXiv 1411.5726), scaled by 10 as its authors' code does.

    How much a phrase counts depends on how few images it is said of, among these references.

    Args:
        candidates, references: see `bleu_counts`; of two images or more, since else no phrase says anything.
    """
    said = Counter(
        phrase for others in references for phrase in {phrase for other in others for phrase in _phrases(other)}
    )
    rarest = log(len(references))
    weights = {phrase: rarest - log(count) for phrase, count in said.items()}

    def vector(words: Words) -> _Phrases:
        return _Phrases(words, weights, rarest)

    scores = [
        np.mean([vector(candidate).likeness(vector(other)) for other in others])
        for candidate, others in zip(candidates, references, strict=True)
    ]
    return _SCALE * np.array(scores)


class _Phrases:
    """The phrases of a caption, each with its weight times how often it is there."""

    def __init__(self, words: Words, weights: Mapping[tuple[str, ...], float], unknown: float) -> None:
        self.length = max(len(words) - 1, 0)  # the authors' code counts pairs of words
        self.values = {phrase: n * weights.get(phrase, unknown) for phrase, n in Counter(_phrases(words)).items()}
        self.norms = [0.0] * NGRAMS
        for phrase, value in self.values.items():
            self.norms[len(phrase) - 1] += value * value

    def likeness(self, other: _Phrases) -> float:
        """The mean over lengths of phrases of the cosine, where this caption's counts are cut to the other's."""
        products = [0.0] * NGRAMS
        for phrase, value in self.values.items():
            theirs = other.values.get(phrase, 0.0)
            products[len(phrase) - 1] += min(value, theirs) * theirs
        norms = [(mine * theirs) ** 0.5 for mine, theirs in zip(self.norms, other.norms, strict=True)]
        cosines = [product / norm if norm else product for product, norm in zip(products, norms, strict=True)]
        return sum(cosines) / NGRAMS * e ** (-((self.length - other.length) ** 2) / (2 * _SIGMA**2))


def _phrases(words: Words) -> Iterator[tuple[str, ...]]:
    """All phrases of 1 … 4 words."""
    for count in range(1, NGRAMS + 1):
        yield from (tuple(words[start : start + count]) for start in range(len(words) - count + 1))
