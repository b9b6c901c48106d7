"""Classifiers of emoji: small networks that read which thing an image shows, by which hand, in which treatment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config  # pyright: ignore[reportUnknownVariableType] - diffusers leaves parameters untyped
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float, Int64, UInt8
from numpy import ndarray
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from versatile_diffusion.checkpoints import CheckpointError
from versatile_diffusion.checkpoints.folder import CLASSIFIER, read_json
from versatile_diffusion.checkpoints.sources import locate
from versatile_diffusion.evaluation.fid import ImageFeatures
from versatile_diffusion.training.loop.task import Batch, Pass, Task
from versatile_diffusion.training.tasks.data import to_floats
from versatile_diffusion.training.tasks.kl_autoencoder import PerceptualNetwork
from versatile_diffusion.worlds.emoji.labels import HAND_NAMES, LABELS, TREATMENT_NAMES

GROUPS = 8


class HalvingBlock(nn.Module):
    """Halves an image in height and width, then adds to it what two convolutions see.

    Args:
        inner, outer: channels before and after.
    """

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.halve = nn.Sequential(nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.GroupNorm(GROUPS, outer))
        self.refine = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(outer, outer, 3, padding=1),
            nn.GroupNorm(GROUPS, outer),
            nn.SiLU(),
            nn.Conv2d(outer, outer, 3, padding=1),
            nn.GroupNorm(GROUPS, outer),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d _ _"]:
        """Returns features at half the resolution."""
        x = self.halve(x)
        return nn.functional.silu(x + self.refine(x))


class EmojiClassifier(ModelMixin, PerceptualNetwork, ConfigMixin):
    """Reads thing, hand and treatment at once.

    Args:
        things: how many there are.
        widths: channels after each halving of the image.
        size: height and width of the images, in pixels.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, things: int, widths: Sequence[int] = (24, 64, 128, 256), size: int = 128) -> None:
        super().__init__()
        first, *rest = widths
        stem = nn.Sequential(nn.Conv2d(3, first, 3, stride=2, padding=1), nn.GroupNorm(GROUPS, first), nn.SiLU())
        blocks = [HalvingBlock(inner, outer) for inner, outer in zip(widths, rest, strict=False)]
        self.stages = nn.ModuleList([stem, *blocks])
        counts = {"thing": things, "hand": len(HAND_NAMES), "treatment": len(TREATMENT_NAMES)}
        self.heads = nn.ModuleDict({name: nn.Linear(2 * widths[-1], counts[name]) for name in LABELS})

    @property
    def size(self) -> int:
        """Height and width of the images, in pixels."""
        return int(self.config["size"])

    def features(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c _ _"]]:
        """See `PerceptualNetwork.features`: those after each halving."""
        x = images * 2 - 1
        return [x := stage(x) for stage in self.stages]

    def pooled(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Returns the last features of images in [0, 1], wherever in the image they are."""
        last = self.features(images)[-1]
        return torch.cat([last.mean((2, 3)), last.amax((2, 3))], dim=1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, Float[Tensor, "b values"]]:
        """Returns the scores of all things, hands and treatments, for images in [0, 1]."""
        pooled = self.pooled(images)
        return {name: self.heads[name](pooled) for name in LABELS}

    @torch.no_grad()
    def read(self, images: Float[Tensor, "b 3 h w"]) -> Int64[Tensor, "b 3"]:
        """Returns the indices of the thing, hand and treatment that each image in [0, 1] shows."""
        scores = self(images)
        return torch.stack([scores[name].argmax(1) for name in LABELS], dim=1)


class EmojiFeatures(ImageFeatures):
    """The classifier's last features, wherever in the image they are, to compare sets of images in."""

    def __init__(self, classifier: EmojiClassifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.num_features = 2 * int(classifier.config["widths"][-1])

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """See `ImageFeatures.forward`."""
        return self.classifier.pooled(images)


class EmojiClassifierTask(Task[EmojiClassifier]):
    """Cross-entropy of things, hands and treatments.

    Half of the images are blurred a little, so that the reading does not hang on single pixels.

    Args:
        classifier: to train.
        parts: images, and what they show; labels are told as `EmojiData.labels` tells them.
    """

    def __init__(
        self,
        classifier: EmojiClassifier,
        parts: Sequence[tuple[UInt8[ndarray, "_ h w 3"], Int64[Tensor, "_ 3"]]],
    ) -> None:
        self.model, self.parts = classifier, parts
        self.ends = torch.tensor([len(images) for images, _ in parts]).cumsum(0)

    def draw(self, generator: Generator, size: int) -> Batch:
        """See `Task.draw`."""
        index = torch.randint(int(self.ends[-1]), (size,), generator=generator)
        which = torch.searchsorted(self.ends, index, right=True)
        images: list[Tensor] = []
        labels: list[Tensor] = []
        places: list[list[int]] = torch.stack([which, index], dim=1).numpy().tolist()
        for part, place in places:
            held, shown = self.parts[part]
            within = place - int(self.ends[part]) + len(held)
            images.append(torch.tensor(held[within]))
            labels.append(shown[within])
        blur = torch.rand(size, 1, 1, 1, generator=generator) < 0.5
        return {"images": torch.stack(images), "labels": torch.stack(labels), "blur": blur}

    def passes(self, batch: Batch) -> Iterator[Pass]:
        """See `Task.passes`."""

        def read() -> dict[str, Tensor]:
            images = to_floats(batch["images"]).contiguous(memory_format=torch.channels_last)
            coarse = interpolate(images, scale_factor=0.5, mode="area")
            images = torch.where(batch["blur"], interpolate(coarse, scale_factor=2.0, mode="bilinear"), images)
            scores = self.model(images)
            return {name: cross_entropy(scores[name], batch["labels"][:, i]) for i, name in enumerate(LABELS)}

        yield read


def load_emoji_classifier(model: str | Path) -> EmojiClassifier:
    """Loads the classifier that was saved with a model.

    Args:
        model: what the model is called: "emoji", or a folder.

    Raises:
        CheckpointError: if there is no such model, or no classifier in its folder.
    """
    folder = locate(model) / CLASSIFIER
    if not folder.is_dir() or "things" not in read_json(folder / "config.json"):
        raise CheckpointError(
            f"{folder.parent} holds no classifier of emoji, which `vd train emoji` saves with a model in its folder "
            f"{CLASSIFIER}. Copy that folder here."
        )
    classifier = EmojiClassifier.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)  # pyright: ignore[reportUnknownMemberType] - diffusers leaves parameters untyped
    assert isinstance(classifier, EmojiClassifier)
    return classifier.eval()


def save_emoji_classifier(classifier: EmojiClassifier, folder: Path) -> None:
    """Saves a classifier with the model in a folder, as readable as the model itself."""
    classifier.save_pretrained(folder / CLASSIFIER)  # pyright: ignore[reportUnknownMemberType] - diffusers leaves parameters untyped
    for weights in (folder / CLASSIFIER).glob("*.safetensors"):
        weights.chmod((folder / "model_index.json").stat().st_mode)  # safetensors lets the owner alone read it
