from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from versatile_diffusion.evaluation.batches import batches
from versatile_diffusion.evaluation.exhibition import Exhibit
from versatile_diffusion.evaluation.fid import ImageFeatures, frechet_distance
from versatile_diffusion.evaluation.generation import generators, seed_of
from versatile_diffusion.evaluation.retrieval import retrieval_accuracy
from versatile_diffusion.modalities import ImageModality, TextModality


class FlatImage(ImageModality):
    """Its only token of an image is the image."""

    def embed(self, items: Sequence[Tensor], masks: Any = None) -> Tensor:
        return torch.stack([item.flatten()[None] for item in items])


class NumberedText(TextModality):
    """Its texts are numbers."""

    def context_ids(self, items: Sequence[str]) -> Tensor:
        return torch.tensor([[int(item)] for item in items])


class NumbersAsDirections(nn.Module):
    def model(self, input_ids: Tensor) -> SimpleNamespace:
        return SimpleNamespace(text_embeds=2.5 * torch.eye(12)[input_ids[:, 0]])


class MeanColors(ImageFeatures):
    """The mean and the spread of each channel."""

    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([images.mean((2, 3)), images.std((2, 3))], dim=1)


@settings(max_examples=20)
@given(st.integers(1, 20), st.integers(1, 7))
def test_batches_are_whole_and_in_order(length: int, size: int) -> None:
    parts = list(batches(range(length), size))
    assert [i for part in parts for i in part] == list(range(length))
    assert max(map(len, parts)) <= size


def test_retrieval_picks_the_nearest_text() -> None:
    text = NumberedText()
    text.context_encoder = NumbersAsDirections()  # pyright: ignore
    pictures, texts = [torch.eye(12)[i].reshape(3, 2, 2) for i in range(12)], [str(i) for i in range(12)]
    assert retrieval_accuracy(FlatImage(), text, pictures, texts, choices=12) == 1
    shifted = [*texts[1:], texts[0]]  # the right text of each picture is the one before: offered only among all 12
    assert retrieval_accuracy(FlatImage(), text, pictures, shifted, choices=12) == 0
    with pytest.raises(ValueError, match="13 choices"):
        retrieval_accuracy(FlatImage(), text, pictures, texts, choices=13)


def test_frechet_distance_grows_with_the_difference() -> None:
    images = torch.rand(40, 3, 32, 32)
    none, little, much = (frechet_distance(MeanColors(), images, images * x) for x in (1.0, 0.8, 0.3))
    assert none == pytest.approx(0, abs=1e-3)
    assert none < little < much


@given(st.text("ab ", max_size=200), st.integers(0, 2))
def test_texts_under_pictures_lose_no_word(text: str, pictures: int) -> None:
    exhibit = Exhibit((Image.new("RGB", (8, 8)),) * pictures, text)
    assert "".join(exhibit.lines).replace(" ", "") == text.replace(" ", "")
    assert all(len(line) * 6 <= exhibit.width for line in exhibit.lines)


def test_every_output_draws_alone_whatever_its_batch() -> None:
    whole = [g.initial_seed() for g in generators(1, 2, start=0, count=6)]
    parts = [*generators(1, 2, start=0, count=4), *generators(1, 2, start=4, count=2)]
    assert whole == [part.initial_seed() for part in parts]
    assert len(set(whole)) == 6 and not set(whole) & {seed_of(2, 1, i) for i in range(6)}
