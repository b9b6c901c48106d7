from collections.abc import Sequence
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.applications.rewriting import Change, phrase_for, put
from versatile_diffusion.modalities import TextModality

Pipe = VersatileDiffusionPipeline
SCENE = "a red cottage by the sea, at noon, painted in oils"


class Counter:
    """Reads best what is shortest; every phrase means something else."""

    def embed(self, items: Sequence[str]) -> Float[Tensor, "b n d"]:
        return torch.eye(len(items))[:, None]

    def log_likelihood(self, items: Sequence[str]) -> Float[Tensor, " b"]:
        return -torch.tensor([float(len(item)) for item in items])


def reader(pipe: Pipe) -> TextModality:
    return cast(TextModality, pipe.modality("text"))


@pytest.mark.parametrize(
    ("change", "text", "expected"),
    [
        (Change(remove="house", add="tent"), "a red house by the sea.", "a red tent by the sea"),
        (Change(remove="House", add="tent"), "a house, a house", "a tent, a tent"),
        (Change(remove="house", add="x"), "a house, a lighthouse", "a x, a lighthouse"),  # whole words alone
        (Change(remove="red"), "a red house", "a house"),
        (Change(remove="a house"), "a house", ""),
        (Change(remove="house", add=r"\\1"), "a house", r"a \\1"),
        (Change(remove="(sic)", add="!"), "a (sic) house", "a ! house"),
        (Change(add="tent"), "", "tent"),
        (Change(add="x"), "a lovely house", "x"),
        (Change(remove="sun", add="x"), "a lovely house", "x"),  # no sun: it stands where it reads best
        (Change(prompt="pixel art", remove="house", add="tent"), "house", "pixel art"),
    ],
)
def test_texts_are_rewritten(change: Change, text: str, expected: str) -> None:
    assert change.rewrite(text, Counter()) == expected


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("make this picture an oil painting", "an oil painting"),
        ("Turn it into pixel art", "pixel art"),
        ("please make the photo look like a watercolor", "a watercolor"),
        ("make this a postcard", "a postcard"),
        ("make this house red", "make this house red"),  # says what is to change: no mere instruction
        ("made in the snow", "made in the snow"),
    ],
)
def test_instructions_are_understood(prompt: str, words: str) -> None:
    assert Change(prompt).rewrite("", Counter()) == words


@given(st.text("abc ,.", max_size=30), st.text("abc", min_size=1, max_size=4))
def test_removed_words_are_gone_and_nothing_else_is_lost(text: str, word: str) -> None:
    after = Change(remove=word).rewrite(text, Counter())
    words = text.replace(",", " , ").replace(".", " . ").split()
    assert word not in after.replace(",", " ").replace(".", " ").split()
    assert all(other in after for other in words if other not in {word, ",", "."})


@given(st.text("ab ,-'", max_size=20))
def test_new_words_are_always_there(text: str) -> None:
    assert "night" in put(Counter(), text, "night")


@pytest.mark.parametrize(
    ("words", "phrase"),
    [("house", "cottage"), ("day", "noon"), ("oil painting", "painted in oils"), ("red", "red"), ("tent", "tent")],
)
def test_words_are_found_by_what_they_mean(bundled: Pipe, words: str, phrase: str) -> None:
    assert phrase_for(reader(bundled), SCENE, words) == phrase


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("blue", "a blue cottage by the sea, at noon, painted in oils"),
        ("at night", "a red cottage by the sea, at night, painted in oils"),
        ("in the desert", "a red cottage in the desert, at noon, painted in oils"),
        ("in watercolor", "a red cottage by the sea, at noon, painted in watercolor"),
    ],
)
def test_new_words_take_the_place_of_their_like(bundled: Pipe, words: str, expected: str) -> None:
    assert put(reader(bundled), SCENE, words) == expected


@pytest.mark.parametrize("text", ["", " ,. ", "a-b", "it's 'a' b"])
def test_any_text_can_be_searched(pipe: Pipe, text: str) -> None:
    phrase = phrase_for(reader(pipe), text, "house")
    assert phrase == "house" or phrase in text
    assert phrase_for(reader(pipe), text, "") == ""
