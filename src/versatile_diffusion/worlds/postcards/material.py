"""What the stages of the bundled model learn from, and what they are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from versatile_diffusion.worlds.postcards import ATTRIBUTES, Postcards, Scene, Split, caption, choose_mention
from versatile_diffusion.worlds.postcards.classifier_task import to_pictures
from versatile_diffusion.worlds.postcards.image_pool import image_pool

VIEWS = 4
"""Texts of each picture: two that leave out the same things, then two that leave out nothing."""


class Material:
    """Pictures, texts and labels of postcards.

    Args:
        postcards: with a length.
        folder: where the pictures are kept.
    """

    def __init__(self, postcards: Postcards, folder: Path) -> None:
        self.postcards, self.folder = postcards, folder

    @cached_property
    def images(self) -> UInt8[np.ndarray, "n h w 3"]:
        """All pictures."""
        return image_pool(self.postcards, self.folder)

    @cached_property
    def scenes(self) -> list[Scene]:
        """What each picture shows."""
        return [self.postcards.scene(index) for index in range(len(self.postcards))]

    @cached_property
    def labels(self) -> Int64[Tensor, "n attributes"]:
        """The attributes of each picture."""
        return torch.tensor([scene.indices for scene in self.scenes])

    @cached_property
    def texts(self) -> list[str]:
        """`VIEWS` texts of each picture."""
        return [text for index, scene in enumerate(self.scenes) for text in texts_of(scene, self.postcards.seed, index)]

    def pictures(self, start: int, stop: int) -> Sequence[Float[Tensor, "3 h w"]]:
        """Pictures from one index to before another, as the image modality takes them."""
        return list(to_pictures(torch.tensor(self.images[start:stop])))


def fresh(material: Material, count: int) -> Material:
    """Postcards of another seed, that were not learnt from, held-out combinations among them."""
    postcards = Postcards(material.postcards.seed + 1, count, Split.ALL, material.postcards.size)
    return Material(postcards, material.folder)


def texts_of(scene: Scene, seed: int, index: int) -> list[str]:
    """`VIEWS` texts of a scene."""
    rng = np.random.default_rng((seed, index, 1))
    some, everything = choose_mention(rng), list(ATTRIBUTES)
    return [caption(scene, rng, mention) for mention in (some, some, everything, everything)]
