"""What a model of postcards learns from, and what it is measured on."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from versatile_diffusion._moved import former_names
from versatile_diffusion.modalities.vocabulary import Tokenizers, word_tokenizers
from versatile_diffusion.training.tasks.data import CaptionRoles, HardNegatives, TrainingData, differing_in_one
from versatile_diffusion.worlds.postcards.data import (
    ATTRIBUTES,
    VOCABULARY,
    Postcards,
    Scene,
    Split,
    caption,
    choose_mention,
)
from versatile_diffusion.worlds.postcards.image_pool import image_pool

__getattr__ = former_names(
    __name__,
    {
        "Material": "versatile_diffusion.worlds.postcards.training_data:PostcardsData",
        "fresh": "versatile_diffusion.worlds.postcards.training_data:validation_data",
    },
)

ROLES = CaptionRoles(complete=(2, 2, 3, 3), paraphrase=(1, 0, 3, 2))
"""Each postcard has two texts that leave out the same things, then two that leave out nothing."""

SHOWN_IN = [6.0 if name == "position" else 1.0 for name in ATTRIBUTES]
"""How often hard negatives differ in each attribute: left alone, CLIP learns all others before the position, or never
learns it."""


class PostcardsData(TrainingData):
    """Images, texts and labels of postcards.

    Args:
        postcards: with a length.
        folder: where the images are kept.
    """

    def __init__(self, postcards: Postcards, folder: Path) -> None:
        self.postcards, self.folder = postcards, folder

    def __len__(self) -> int:
        """See `TrainingData.__len__`: the images need not be rendered to count them."""
        return len(self.postcards)

    @property
    def description(self) -> str:
        """See `TrainingData.description`."""
        cards = self.postcards
        return f"{len(cards)} postcards of {cards.size}², seed {cards.seed}"

    @cached_property
    def _images(self) -> UInt8[np.ndarray, "n h w 3"]:
        return image_pool(self.postcards, self.folder)

    @property
    def images(self) -> UInt8[np.ndarray, "n h w 3"]:
        """See `TrainingData.images`. They are rendered when they are first asked for."""
        return self._images

    @cached_property
    def scenes(self) -> list[Scene]:
        """What each image shows."""
        return [self.postcards.scene(index) for index in range(len(self.postcards))]

    @cached_property
    def labels(self) -> Int64[Tensor, "n attributes"]:
        """The index of each attribute's value, for each image."""
        return torch.tensor([scene.indices for scene in self.scenes])

    @cached_property
    def _texts(self) -> list[str]:
        return [text for index, scene in enumerate(self.scenes) for text in texts_of(scene, self.postcards.seed, index)]

    @property
    def texts(self) -> list[str]:
        """See `TrainingData.texts`."""
        return self._texts

    @property
    def roles(self) -> CaptionRoles:
        """See `TrainingData.roles`."""
        return ROLES

    @property
    def hard_negatives(self) -> HardNegatives:
        """See `TrainingData.hard_negatives`: postcards that differ in a single attribute."""
        return HardNegatives(differing_in_one(self.labels), torch.tensor(SHOWN_IN))

    @property
    def tokenizers(self) -> Tokenizers:
        """See `TrainingData.tokenizers`."""
        return word_tokenizers(VOCABULARY)


def validation_data(data: PostcardsData, count: int) -> PostcardsData:
    """Returns postcards of another seed, that are not learnt from, held-out combinations among them."""
    return PostcardsData(Postcards(data.postcards.seed + 1, count, Split.ALL, data.postcards.size), data.folder)


def texts_of(scene: Scene, seed: int, index: int) -> list[str]:
    """Returns the texts of a scene, in the order of `ROLES`."""
    rng = np.random.default_rng((seed, index, 1))
    some, everything = choose_mention(rng), list(ATTRIBUTES)
    return [caption(scene, rng, mention) for mention in (some, some, everything, everything)]
