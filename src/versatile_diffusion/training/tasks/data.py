"""What a model of images and texts learns from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, UInt8
from numpy import ndarray
from torch import Generator, Tensor

from versatile_diffusion.modalities.vocabulary import Tokenizers, word_tokenizers


@dataclass(frozen=True)
class CaptionRoles:
    """How many texts each image has, and which of them take each other's place.

    Attributes:
        complete: for each text, the one that flows from images to texts learn in its place, as the paper trains these
            on cleaned captions.
        paraphrase: for each text, the one that says the same, which variations of texts learn it from.
    """

    complete: tuple[int, ...] = (0,)
    paraphrase: tuple[int, ...] = (0,)

    @property
    def count(self) -> int:
        """How many texts each image has."""
        return len(self.complete)


@dataclass(frozen=True)
class HardNegatives:
    """For each image some others that are nearly like it, of several kinds, which the context encoders must tell apart.

    Attributes:
        partners: the index of another image, for each image and kind; its own index where there is none.
        weights: how often each kind is shown, relative to the others.
    """

    partners: Int64[Tensor, "n kinds"]
    weights: Float[Tensor, " kinds"]

    def beside(self, index: Int64[Tensor, " b"], generator: Generator) -> Int64[Tensor, " b"]:
        """Returns samples of which every second is one that is nearly like the sample before it."""
        kind = torch.multinomial(self.weights, len(index), replacement=True, generator=generator)
        paired = index.clone()
        paired[1::2] = self.partners[index[:-1:2], kind[:-1:2]]
        return paired


def drawn_samples(
    count: int, size: int, generator: Generator, hard_negatives: HardNegatives | None
) -> Int64[Tensor, " size"]:
    """Returns which of so many samples are compared with one another; see `HardNegatives.beside`."""
    index = torch.randint(count, (size,), generator=generator)
    return index if hard_negatives is None else hard_negatives.beside(index, generator)


class TrainingData(ABC):
    """Images with texts. Images and texts are all that must be brought; the rest has defaults."""

    @property
    @abstractmethod
    def description(self) -> str:
        """In a few words what this is. Kept latents of data that is described otherwise are computed anew."""

    @property
    @abstractmethod
    def images(self) -> UInt8[ndarray, "n h w 3"]:
        """All images."""

    @property
    @abstractmethod
    def texts(self) -> Sequence[str]:
        """`roles.count` texts of each image, image by image."""

    @property
    def roles(self) -> CaptionRoles:
        """What the texts of an image are used for. By default each image has one text."""
        return CaptionRoles()

    @property
    def hard_negatives(self) -> HardNegatives | None:
        """Images that are hard to tell apart, if the data knows them."""
        return None

    @property
    def tokenizers(self) -> Tokenizers:
        """Tokenizers of the texts. By default every word of the texts is a token."""
        return word_tokenizers(self.texts)

    def image_items(self, start: int, stop: int) -> list[Float[Tensor, "3 h w"]]:
        """Returns images from one index to before another, as the image modality takes them."""
        return list(to_floats(torch.tensor(self.images[start:stop])))

    def text_items(self, start: int, stop: int) -> Sequence[str]:
        """Returns the texts of the images from one index to before another."""
        return self.texts[start * self.roles.count : stop * self.roles.count]

    def __len__(self) -> int:
        """Returns how many images there are."""
        return len(self.images)


def to_floats(images: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """Returns images as floats in [0, 1], channels first."""
    return images.permute(0, 3, 1, 2).float().div(255)


def differing_in_one(labels: Int64[Tensor, "n attributes"]) -> Int64[Tensor, "n attributes"]:
    """Returns, for each sample and attribute, another sample that differs in that attribute alone.

    Args:
        labels: index of each attribute's value.

    Returns:
        Indices of samples; a sample's own index where there is no such other.
    """
    found = torch.arange(len(labels))[:, None].repeat(1, labels.shape[1])
    for attribute in range(labels.shape[1]):
        groups: dict[tuple[int, ...], list[int]] = {}
        others = torch.cat([labels[:, :attribute], labels[:, attribute + 1 :]], dim=1)
        for index, row in enumerate(_rows(others)):
            groups.setdefault(row, []).append(index)
        for group in groups.values():
            values = _rows(labels[group])
            for place, index in enumerate(group):
                turned = range(place + 1, place + len(group))
                other = next(
                    (i % len(group) for i in turned if values[i % len(group)][attribute] != values[place][attribute]),
                    place,
                )
                found[index, attribute] = group[other]
    return found


def _rows(numbers: Int64[Tensor, "n columns"]) -> list[tuple[int, ...]]:
    rows: list[list[int]] = numbers.numpy().tolist()
    return [tuple(row) for row in rows]
