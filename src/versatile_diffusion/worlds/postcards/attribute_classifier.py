"""The attribute classifier: a small network, trained on rendered postcards only, that reads what a postcard shows."""

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

from versatile_diffusion._moved import former_names
from versatile_diffusion.checkpoints import CheckpointError
from versatile_diffusion.checkpoints.folder import CLASSIFIER
from versatile_diffusion.checkpoints.sources import locate
from versatile_diffusion.evaluation.fid import ImageFeatures
from versatile_diffusion.training.loop.task import Batch, Pass, Task
from versatile_diffusion.training.tasks.data import to_floats
from versatile_diffusion.training.tasks.kl_autoencoder import PerceptualNetwork
from versatile_diffusion.worlds.postcards.data import ATTRIBUTES

__getattr__ = former_names(
    __name__,
    {
        "Oracle": "versatile_diffusion.worlds.postcards.attribute_classifier:AttributeClassifier",
        "OracleTask": "versatile_diffusion.worlds.postcards.attribute_classifier:AttributeClassifierTask",
        "to_pictures": "versatile_diffusion.training.tasks.data:to_floats",
    },
)


class AttributeClassifier(ModelMixin, PerceptualNetwork, ConfigMixin):
    """Reads all attributes of images at once.

    Args:
        widths: channels after each halving of the image.
        size: height and width of the images, in pixels.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, widths: Sequence[int] = (32, 64, 96, 128), size: int = 64) -> None:
        super().__init__()
        channels = (3, *widths)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.GroupNorm(8, outer), nn.SiLU())
            for inner, outer in zip(channels, widths, strict=False)
        )
        side = size // 2 ** len(widths)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(widths[-1] * side * side, len(values)) for name, values in ATTRIBUTES.items()}
        )

    @property
    def size(self) -> int:
        """Height and width of the images, in pixels."""
        return int(self.config["size"])

    def features(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c _ _"]]:
        """Returns the features after each halving of images in [0, 1]."""
        x = images * 2 - 1
        return [x := stage(x) for stage in self.stages]

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, Float[Tensor, "b values"]]:
        """Returns the scores of each attribute's values, for images in [0, 1]."""
        last = self.features(images)[-1].flatten(1)
        return {name: head(last) for name, head in self.heads.items()}

    @torch.no_grad()
    def read(self, images: Float[Tensor, "b 3 h w"]) -> list[dict[str, str]]:
        """Returns the attributes of each image in [0, 1]."""
        best: dict[str, list[int]] = {name: scores.argmax(1).tolist() for name, scores in self(images).items()}
        return [{name: ATTRIBUTES[name][best[name][i]] for name in ATTRIBUTES} for i in range(len(images))]


class ClassifierFeatures(ImageFeatures):
    """The classifier's last features, averaged over the image."""

    def __init__(self, classifier: AttributeClassifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.num_features = int(classifier.config["widths"][-1])

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """See `ImageFeatures.forward`."""
        return self.classifier.features(images)[-1].mean((2, 3))


class AttributeClassifierTask(Task[AttributeClassifier]):
    """Cross-entropy of every attribute.

    Half of the images are blurred a little, so that the reading does not hang on single pixels.

    Args:
        classifier: to train.
        images: all images.
        labels: index of each attribute's value.
    """

    def __init__(
        self,
        classifier: AttributeClassifier,
        images: UInt8[ndarray, "n h w 3"],
        labels: Int64[Tensor, "n attributes"],
    ) -> None:
        self.model, self.images, self.labels = classifier, images, labels

    def draw(self, generator: Generator, size: int) -> Batch:
        """See `Task.draw`."""
        index = torch.randint(len(self.images), (size,), generator=generator)
        return {
            "images": torch.as_tensor(self.images[index.numpy()]),
            "labels": self.labels[index],
            "blur": torch.rand(size, 1, 1, 1, generator=generator) < 0.5,
        }

    def passes(self, batch: Batch) -> Iterator[Pass]:
        """See `Task.passes`."""

        def read() -> dict[str, Tensor]:
            images = to_floats(batch["images"])
            coarse = interpolate(images, scale_factor=0.5, mode="area")
            images = torch.where(batch["blur"], interpolate(coarse, scale_factor=2.0, mode="bilinear"), images)
            scores = self.model(images)
            wrong = [cross_entropy(scores[name], batch["labels"][:, i]) for i, name in enumerate(ATTRIBUTES)]
            return {"cross-entropy": torch.stack(wrong).sum()}

        yield read


def has_classifier(source: str | Path) -> bool:
    """Returns whether an attribute classifier was saved with a model; see `load_classifier`."""
    return (locate(source) / CLASSIFIER).is_dir()


def load_classifier(source: str | Path) -> AttributeClassifier:
    """Loads the attribute classifier that was saved with a model.

    Args:
        source: what the model is called, "postcards" or a folder.

    Raises:
        CheckpointError: if there is no such model, or no classifier in its folder.
    """
    folder = locate(source) / CLASSIFIER
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder.parent} holds no attribute classifier, which `vd train postcards` saves with a model in its "
            f"folder {CLASSIFIER}. Copy that folder here."
        )
    classifier = AttributeClassifier.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)  # pyright: ignore[reportUnknownMemberType] - diffusers leaves parameters untyped
    assert isinstance(classifier, AttributeClassifier)
    classifier.register_to_config(_name_or_path=CLASSIFIER)  # pyright: ignore[reportUnknownMemberType] - diffusers leaves parameters untyped; where it lay is nobody's business when it is saved again
    return classifier.eval()


def save_classifier(classifier: AttributeClassifier, folder: Path) -> None:
    """Saves an attribute classifier with the model in a folder, as readable as the model itself."""
    classifier.save_pretrained(folder / CLASSIFIER)  # pyright: ignore[reportUnknownMemberType] - diffusers leaves parameters untyped
    for weights in (folder / CLASSIFIER).glob("*.safetensors"):
        weights.chmod((folder / "model_index.json").stat().st_mode)  # safetensors lets the owner alone read it
