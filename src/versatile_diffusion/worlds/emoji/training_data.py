"""What a model of emoji learns from, and what it is measured on: parts of the data set that `vd data emoji` writes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from versatile_diffusion.modalities.vocabulary import Tokenizers, vocabulary_of, word_tokenizers
from versatile_diffusion.training.stages.captioned_folder import CaptionedFolder
from versatile_diffusion.training.tasks.data import CaptionRoles
from versatile_diffusion.worlds.emoji.data.captions import phrases
from versatile_diffusion.worlds.emoji.data.split import EmojiSplit
from versatile_diffusion.worlds.emoji.data.things import Thing, read_thing_list
from versatile_diffusion.worlds.emoji.labels import HAND_NAMES, LABELS, TREATMENT_NAMES

ROLES = CaptionRoles(complete=(2, 2, 3, 3), paraphrase=(1, 0, 3, 2))
"""Each image has two texts that leave out the same things, then two that leave out nothing."""


ARRAYS = "arrays"
"""The folder, in that of the data set, where its images are kept as arrays."""


class EmojiData(CaptionedFolder):
    """A part of the data set.

    Args:
        data: the folder of the whole data set.
        split: the part.
        limit: takes only so many images, the first ones.
    """

    def __init__(self, data: Path, split: EmojiSplit, limit: int | None = None) -> None:
        super().__init__(data / split.value, data / ARRAYS, ROLES, limit)
        self.data, self.split = data, split

    @cached_property
    def things(self) -> tuple[Thing, ...]:
        """All things of the data set."""
        return read_thing_list(self.data)

    @cached_property
    def labels(self) -> Int64[Tensor, "n 3"]:
        """What each image shows, as indices of things, hands and treatments; -1 for a hand that is not known."""
        numbers: Mapping[str, Mapping[str, int]] = {
            "thing": {thing.id: i for i, thing in enumerate(self.things)},
            "hand": {name: i for i, name in enumerate(HAND_NAMES)},
            "treatment": {name: i for i, name in enumerate(TREATMENT_NAMES)},
        }
        return torch.tensor([[numbers[name].get(str(line[name]), -1) for name in LABELS] for line in self.lines])

    @cached_property
    def words(self) -> list[str]:
        """The vocabulary: all words that captions of these things can have, whatever the images show."""
        return vocabulary_of(phrases(self.things))

    @property
    def tokenizers(self) -> Tokenizers:
        """See `TrainingData.tokenizers`."""
        return word_tokenizers(self.words)
