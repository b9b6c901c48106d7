"""What each stage before the diffuser can do at best: training measures it before it goes on, evaluation reports it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from versatile_diffusion.evaluation.batches import batches
from versatile_diffusion.modalities import ImageModality
from versatile_diffusion.worlds.emoji.classifier import EmojiClassifier
from versatile_diffusion.worlds.emoji.labels import LABELS
from versatile_diffusion.worlds.emoji.training_data import EmojiData

Shares = dict[str, float]


def accuracies(
    classifier: EmojiClassifier, images: Sequence[Float[Tensor, "3 h w"]], labels: Int64[Tensor, "n 3"]
) -> Shares:
    """Returns the shares of the images whose thing, hand and treatment a classifier reads rightly.

    Args:
        classifier: reads images.
        images: in [0, 1], of its size.
        labels: what they show; see `EmojiData.labels`. What is -1 does not count.
    """
    read = torch.cat([classifier.read(torch.stack(list(batch))) for batch in batches(images)])
    right, known = (read == labels).float(), labels >= 0
    return {
        name: (right[known[:, i], i].mean().item() if known[:, i].any() else float("nan"))
        for i, name in enumerate(LABELS)
    }


def reconstruct(
    image_modality: ImageModality, images: Sequence[Float[Tensor, "3 h w"]]
) -> list[Float[Tensor, "3 h w"]]:
    """Returns images as they come back from the autoencoder."""
    return [out for batch in batches(images, 32) for out in image_modality.decode(image_modality.encode(batch))]


def reconstruction_figures(
    image_modality: ImageModality, data: EmojiData, classifier: EmojiClassifier | None = None
) -> Shares:
    """Returns how well images come back from the autoencoder.

    Args:
        image_modality: whose autoencoder is measured.
        data: the images.
        classifier: reads what comes back; without it this is left out.

    Returns:
        `error`, the mean absolute error of levels in [0, 1]; `edge_energy`, the mean slope of what comes back as a
        share of the originals'; `grid`, how much steeper slopes are across the borders of the autoencoder's patches
        than within these, as a share of the same in the originals; and the shares that the classifier reads rightly.
    """
    originals = data.image_items(0, len(data))
    made = reconstruct(image_modality, originals)
    a, b = torch.stack(originals), torch.stack(made)
    patch = int(image_modality.config["autoencoder"].get("patch_size", 1))
    figures = {
        "error": (a - b).abs().mean().item(),
        "edge_energy": _slope(b) / _slope(a),
        "grid": _grid(b, patch) / _grid(a, patch),
    }
    return figures if classifier is None else {**figures, **accuracies(classifier, made, data.labels)}


def _slope(images: Float[Tensor, "n 3 h w"]) -> float:
    return sum(images.diff(dim=dim).abs().mean().item() for dim in (2, 3))


def _grid(images: Float[Tensor, "n 3 h w"], patch: int) -> float:
    """Mean slope across the borders of patches, as a share of the mean of all slopes."""
    if patch == 1:
        return 1.0
    across = [images.diff(dim=dim).abs().mean((0, 1)).mean(3 - dim) for dim in (2, 3)]
    return sum(slopes[patch - 1 :: patch].mean().item() / slopes.mean().item() for slopes in across) / 2
