"""What is never learnt from: an eighth of all pairs of a thing and a hand, and of a thing and a treatment.

Whether a pair is held out is a function of the pair and `SPLIT_SEED` alone, so that it stays so whatever else is
added, and in every stage.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import sha256

SPLIT_SEED = 19
HELD_OUT_SHARE = 1 / 8


class EmojiSplit(StrEnum):
    """Parts of the data set.

    TRAIN, and VALIDATION in other places and sizes, show pairs that are learnt from; HELD_OUT shows the others. JUDGE
    shows these others as well, in other places and sizes: the classifier that only measures learns from it, and nothing
    else does. STRANGER is drawn by a hand that nothing learns from.
    """

    TRAIN = "train"
    VALIDATION = "validation"
    HELD_OUT = "held_out"
    JUDGE = "judge"
    STRANGER = "stranger"

    @property
    def is_learnt_from(self) -> bool:
        """Whether it shows only pairs that a model may learn from."""
        return self in (EmojiSplit.TRAIN, EmojiSplit.VALIDATION)


def holds_out_hand(thing: str, family: str, seed: int = SPLIT_SEED) -> bool:
    """Returns whether a thing by the hands of a family is never learnt from.

    Args:
        thing: the `id` of the thing.
        family: see `Hand.family`.
        seed: chooses the eighth.
    """
    return _chance(seed, "hand", thing, family) < HELD_OUT_SHARE


def holds_out_treatment(thing: str, treatment: str, seed: int = SPLIT_SEED) -> bool:
    """Returns whether a thing in a treatment, whoever drew it, is never learnt from; plain is always learnt from.

    Args:
        thing: the `id` of the thing.
        treatment: the name of the treatment.
        seed: chooses the eighth.
    """
    return treatment != "plain" and _chance(seed, "treatment", thing, treatment) < HELD_OUT_SHARE


def _chance(seed: int, *key: str) -> float:
    """A number in [0, 1) that depends on the seed and the key alone."""
    digest = sha256("\n".join([str(seed), *key]).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
