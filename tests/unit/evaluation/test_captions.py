"""Measures of captions, beside the published implementations' values and the formulas written out plainly."""

from collections import Counter
from math import exp, log, sqrt

import numpy as np
import pytest
from torchmetrics.text import BLEUScore

from versatile_diffusion.evaluation.captions import bleu, bleu_counts, cider_d, longest_common, rouge_l
from versatile_diffusion.evaluation.tokens import caption_tokens

MADE = ["a red tent by the sea", "a blue house in the snow at night", "the green windmill"]
REFERENCES = [
    ["a red tent by the sea", "a tent near the sea in red", "red tent"],
    ["a house in the snow", "a small blue house at night in the snow"],
    ["a windmill that is green", "a green windmill by a river"],
]
CANDIDATES, OTHERS = [text.split() for text in MADE], [[text.split() for text in each] for each in REFERENCES]


def test_the_published_implementations_say_the_same() -> None:
    """Values of aac-metrics 0.6.0, whose are those of COCO's evaluation."""
    assert cider_d(CANDIDATES, OTHERS).tolist() == pytest.approx(CIDER, abs=5e-5)
    counts = bleu_counts(CANDIDATES, OTHERS).sum(0)
    assert [float(bleu(counts, n)) for n in range(1, 5)] == pytest.approx(BLEU, rel=1e-6)
    assert [rouge_l(*pair) for pair in zip(CANDIDATES, OTHERS, strict=True)] == pytest.approx(ROUGE, abs=5e-5)


@pytest.mark.parametrize("ngrams", [1, 2, 3, 4])
def test_bleu_is_that_of_torchmetrics(ngrams: int) -> None:
    counts = bleu_counts(CANDIDATES, OTHERS)
    assert float(bleu(counts.sum(0), ngrams)) == pytest.approx(BLEUScore(ngrams)(MADE, REFERENCES).item(), rel=1e-5)


def test_bleu_of_nothing_in_common_or_of_no_words_is_0() -> None:
    counts = bleu_counts([["a"], []], [[["b", "c"]], [["d"]]])
    assert [float(bleu(counts.sum(0), n)) for n in (1, 4)] == [0, 0]
    assert bleu(counts, 1).tolist() == [0, 0]


def test_of_two_references_as_near_in_length_the_shorter_counts() -> None:
    assert bleu_counts([["a"] * 4], [[["a"] * 5, ["a"] * 3]])[0, -1] == 3


def plain_cider_d(candidates: list[list[str]], references: list[list[list[str]]]) -> list[float]:
    """CIDEr-D as its authors' code defines it: tf-idf vectors of phrases, cut, with a penalty of lengths."""

    def phrases(words: list[str], n: int) -> Counter[tuple[str, ...]]:
        return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

    def weight(phrase: tuple[str, ...]) -> float:
        images = sum(any(phrase in phrases(other, len(phrase)) for other in each) for each in references)
        return log(len(references)) - log(max(images, 1))

    scores: list[float] = []
    for candidate, others in zip(candidates, references, strict=True):
        total = 0.0
        for other in others:
            for n in range(1, 5):
                mine = {phrase: count * weight(phrase) for phrase, count in phrases(candidate, n).items()}
                theirs = {phrase: count * weight(phrase) for phrase, count in phrases(other, n).items()}
                product = sum(
                    min(value, theirs.get(phrase, 0)) * theirs.get(phrase, 0) for phrase, value in mine.items()
                )
                norm = sqrt(sum(v * v for v in mine.values()) * sum(v * v for v in theirs.values()))
                pairs = max(len(candidate) - 1, 0) - max(len(other) - 1, 0)
                total += (product / norm if norm else product) * exp(-(pairs**2) / (2 * 6.0**2))
        scores.append(10 * total / 4 / len(others))
    return scores


def test_cider_d_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    words = ["a", "the", "red", "blue", "tent", "house", "by", "sea", "in", "of", "small"]

    def text() -> list[str]:
        return rng.choice(words, rng.integers(0, 10)).tolist()

    candidates, references = [text() for _ in range(20)], [[text() for _ in range(1 + i % 3)] for i in range(20)]
    candidates[3] = references[3][0]
    assert cider_d(candidates, references).tolist() == pytest.approx(plain_cider_d(candidates, references), abs=1e-12)


def test_a_caption_that_only_its_image_has_gets_all_ten_points() -> None:
    assert cider_d(
        [["a", "b", "c", "d"], ["e", "f", "g", "h"]], [[["a", "b", "c", "d"]], [["i", "j", "k", "l"]]]
    ).tolist() == (pytest.approx([10, 0]))


def test_rouge_l_weighs_recall_more() -> None:
    # of 4 words 3 agree in order, of the reference's 6: precision 3/4, recall 1/2
    value = rouge_l(["a", "red", "tent", "here"], [["a", "big", "red", "and", "blue", "tent"]])
    assert value == pytest.approx((1 + 1.44) * 0.75 * 0.5 / (0.5 + 1.44 * 0.75))
    assert rouge_l([], [["a"]]) == rouge_l(["a"], [["b"]]) == rouge_l(["a"], [[]]) == 0
    assert longest_common("abcbdab", "bdcaba") == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A red tent, by the SEA.", "a red tent by the sea"),
        ("It's a dog; don’t pet the dog's tail!", "it 's a dog do n't pet the dog 's tail"),
        ("A black-and-white photo of 1,000 sheep -- 3.5 m", "a black-and-white photo of 1,000 sheep 3.5 m"),
        ("Ein Zelt über dem Fluß “heute” …", "ein zelt über dem fluß heute"),
        (" \n", ""),
    ],
)
def test_tokens_are_words_without_punctuation(text: str, words: str) -> None:
    assert caption_tokens(text) == words.split()


CIDER = [4.9928, 4.1979, 2.0102]
BLEU = [0.7889161715994215, 0.7208213684414566, 0.6193334773329406, 0.5617277348312657]
ROUGE = [1.0, 0.8798, 0.4192]
