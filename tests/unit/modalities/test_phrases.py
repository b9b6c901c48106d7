from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from versatile_diffusion.modalities.phrases import remove_repetition

_WORDS = st.lists(st.sampled_from(["a", "red", "car,", "(tent)", "the", "end."]), max_size=12)


@given(_WORDS)
def test_no_word_follows_itself(words: list[str]) -> None:
    kept = remove_repetition(" ".join(words)).split()
    assert all(a != b for a, b in pairwise(kept))


@given(_WORDS)
def test_twice_is_once(words: list[str]) -> None:
    once = remove_repetition(" ".join(words))
    assert remove_repetition(once) == once


@given(_WORDS)
def test_a_repeated_text_is_said_once(words: list[str]) -> None:
    once = remove_repetition(" ".join(words))
    assert remove_repetition(f"{once} {once}") in (once, remove_repetition(once + once))


@given(st.lists(st.text("abc", min_size=1), unique=True, max_size=8))
def test_words_that_do_not_repeat_stay(words: list[str]) -> None:
    assert remove_repetition("  ".join(words)) == " ".join(words)
