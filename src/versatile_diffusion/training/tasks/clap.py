"""The context encoder of sounds learns which text belongs to which sound, from an encoder of texts that stays as it is.

Texts so mean the same whatever is made of them: the encoder of sounds finds its place in the space that images and
texts share already (locked tuning, arXiv 2111.07991).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Float16
from numpy import ndarray
from torch import Generator, Tensor, nn

from versatile_diffusion.modalities.clap import ClapSoundEncoder
from versatile_diffusion.training.loop.task import Batch, Pass, Task
from versatile_diffusion.training.tasks.clip import contrast
from versatile_diffusion.training.tasks.data import HardNegatives, drawn_samples


class SoundAlignment(nn.Module):
    """The context encoder of sounds, and the temperature at which it is compared with texts."""

    def __init__(self, sound: ClapSoundEncoder) -> None:
        super().__init__()
        self.sound = sound
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def similarities(
        self, features: Float[Tensor, "b 1 t bands"], summaries: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b b"]:
        """Returns the scaled cosine of each sound (row) with each text (column), whose summary has unit length."""
        return self.sound(features)[:, 0] @ summaries.T * self.logit_scale.clamp(max=math.log(100)).exp()


class ClapTask(Task[SoundAlignment]):
    """The symmetric contrastive loss of CLAP (arXiv 2211.06687), whose texts do not learn; see `ClipTask`.

    Args:
        alignment: to train.
        features: of all sounds; see `ClapSoundEncoder.features`.
        summaries: of some texts of each sound, of unit length; see `ClipTextEncoder.summaries`.
        hard_negatives: for each sound some that are nearly like it, where the data knows them.

    Raises:
        ValueError: if the summaries are of another width than the tokens of sounds.
    """

    def __init__(
        self,
        alignment: SoundAlignment,
        features: Float16[ndarray, "n 1 t bands"],
        summaries: Float[Tensor, "n views d"],
        hard_negatives: HardNegatives | None = None,
    ) -> None:
        if alignment.sound.dim != summaries.shape[-1]:
            raise ValueError(f"Texts have {summaries.shape[-1]} numbers, and the sounds' tokens {alignment.sound.dim}.")
        self.model, self.features, self.summaries = alignment, features, summaries
        self.hard_negatives = hard_negatives

    def draw(self, generator: Generator, size: int) -> Batch:
        """See `Task.draw`."""
        index = drawn_samples(len(self.features), size, generator, self.hard_negatives)
        view = torch.randint(self.summaries.shape[1], (size,), generator=generator)
        return {"features": torch.as_tensor(self.features[index.numpy()]), "summaries": self.summaries[index, view]}

    def passes(self, batch: Batch) -> Iterator[Pass]:
        """See `Task.passes`."""

        def compare() -> dict[str, Tensor]:
            return {"contrastive": contrast(self.model.similarities(batch["features"].float(), batch["summaries"]))}

        yield compare
