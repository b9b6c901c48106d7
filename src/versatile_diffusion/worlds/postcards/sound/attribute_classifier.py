"""The attribute classifier on sound: a small network, trained on rendered sounds only, that reads what a clip tells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config  # pyright: ignore[reportUnknownVariableType] - diffusers leaves parameters untyped
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float, Float16, Int64
from numpy import ndarray
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from versatile_diffusion.modalities.sounds import Sound
from versatile_diffusion.training.loop.task import Batch, Pass, Task
from versatile_diffusion.worlds.postcards.data import ATTRIBUTES
from versatile_diffusion.worlds.postcards.sound.mels import SPECTRUM, mels_of


class SoundAttributeClassifier(ModelMixin, ConfigMixin):
    """Reads all attributes of clips at once, from their mel spectrograms.

    A clip is the mean of both channels, and their difference, which tells where a voice is. Each attribute looks at the
    frames it is heard in: the features of all frames are weighted by an attention of its own.

    Args:
        widths: channels after each halving of time and pitch.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, widths: Sequence[int] = (24, 48, 72, 96)) -> None:
        super().__init__()
        channels = (2, *widths)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.GroupNorm(8, outer), nn.SiLU())
                for inner, outer in zip(channels, widths, strict=False)
            )
        )
        wide = widths[-1] * -(-SPECTRUM.bands // 2 ** len(widths))
        self.mixing = nn.Sequential(nn.Conv1d(wide, 128, 3, padding=1), nn.SiLU())
        self.attentions = nn.ModuleDict({name: nn.Conv1d(128, 1, 1) for name in ATTRIBUTES})
        self.heads = nn.ModuleDict({name: nn.Linear(128, len(values)) for name, values in ATTRIBUTES.items()})

    def forward(self, mels: Float[Tensor, "b 2 t bands"]) -> dict[str, Float[Tensor, "b values"]]:
        """Returns the scores of each attribute's values; see `mels_of`."""
        left, right = mels.unbind(1)
        seen = torch.stack([(left + right) / 6 + 1.5, (left - right) / 2], dim=1)
        frames = self.mixing(self.stages(seen).permute(0, 1, 3, 2).flatten(1, 2))
        weights = {name: attention(frames).softmax(-1) for name, attention in self.attentions.items()}
        return {name: head((frames * weights[name]).sum(-1)) for name, head in self.heads.items()}

    @torch.no_grad()
    def read(self, mels: Float[Tensor, "b 2 t bands"]) -> list[dict[str, str]]:
        """Returns the attributes of each clip."""
        best: dict[str, list[int]] = {name: scores.argmax(1).tolist() for name, scores in self(mels).items()}
        return [{name: ATTRIBUTES[name][best[name][i]] for name in ATTRIBUTES} for i in range(len(mels))]

    def read_sounds(self, sounds: Sequence[Sound]) -> list[dict[str, str]]:
        """Returns the attributes of sounds, rendered or generated."""
        return self.read(mels_of(sounds).to(self.device))


class SoundAttributeClassifierTask(Task[SoundAttributeClassifier]):
    """Cross-entropy of every attribute, of clips that are a little earlier or later, louder or quieter.

    Left and right are changed over in half of them, with the position that they tell.

    Args:
        classifier: to train.
        mels: of all clips; see `mels_in`.
        labels: index of each attribute's value.
    """

    def __init__(
        self,
        classifier: SoundAttributeClassifier,
        mels: Float16[ndarray, "n 2 t bands"],
        labels: Int64[Tensor, "n attributes"],
    ) -> None:
        self.model, self.mels, self.labels = classifier, mels, labels
        self.position = list(ATTRIBUTES).index("position")

    def draw(self, generator: Generator, size: int) -> Batch:
        """See `Task.draw`."""
        index = torch.randint(len(self.mels), (size,), generator=generator)
        mels, labels = torch.as_tensor(self.mels[index.numpy()]).float(), self.labels[index].clone()
        mirrored = torch.rand(size, generator=generator) < 0.5
        mels[mirrored] = mels[mirrored].flip(1)
        labels[mirrored, self.position] = len(ATTRIBUTES["position"]) - 1 - labels[mirrored, self.position]
        gains = torch.randn(size, 1, 1, 1, generator=generator) * 0.2
        shift = int(torch.randint(-4, 5, (), generator=generator))
        return {"mels": (mels + gains).roll(shift, 2), "labels": labels}

    def passes(self, batch: Batch) -> Iterator[Pass]:
        """See `Task.passes`."""

        def read() -> dict[str, Tensor]:
            scores = self.model(batch["mels"])
            wrong = [cross_entropy(scores[name], batch["labels"][:, i]) for i, name in enumerate(ATTRIBUTES)]
            return {"cross-entropy": torch.stack(wrong).sum()}

        yield read
