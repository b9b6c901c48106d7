"""The Fréchet distance between two sets of images, in the features of any network.

It is computed as the FID is (arXiv 1706.08500). Where the features are not Inception's, the number cannot be compared
with anyone's FID, only with other numbers of the same features and the same number of images. Few images bias it
upwards, hence the floor to read it against.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from versatile_diffusion.evaluation.batches import BATCH
from versatile_diffusion.extras import require


class ImageFeatures(nn.Module, ABC):
    """A network that turns images in [0, 1] into one vector of features each.

    Attributes:
        num_features: length of the vectors, where torchmetrics looks for it.
    """

    num_features: int

    @abstractmethod
    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Returns the features of images in [0, 1], which lie on any device and have any floating-point type."""


class _GivenFeatures(ImageFeatures):
    """Passes features on that were computed before."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, images: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        return images


def frechet_of_features(real: Float[Tensor, "n d"], made: Float[Tensor, "m d"]) -> float:
    """Returns the distance between two sets of features that are given, of two items or more each, in float64.

    Raises:
        ImportError: if torchmetrics is not installed.
    """
    require("torchmetrics", "Evaluation", "evaluate")
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(_GivenFeatures(real.shape[1]), normalize=True)
    metric.update(real.double(), real=True)
    metric.update(made.double(), real=False)
    distance: Tensor = metric.compute()
    return max(distance.item(), 0.0)  # rounding may leave it just below 0


def frechet_distance(
    features: ImageFeatures, real: Float[Tensor, "n 3 h w"], generated: Float[Tensor, "m 3 h w"]
) -> float:
    """Returns the distance between two sets of images in [0, 1], of two or more each; 0 if their features are the same.

    Raises:
        ImportError: if torchmetrics is not installed.
    """
    require("torchmetrics", "Evaluation", "evaluate")
    from torchmetrics.image.fid import FrechetInceptionDistance

    device = next(features.parameters()).device
    metric = FrechetInceptionDistance(features, normalize=True).to(device)
    for images, is_real in ((real, True), (generated, False)):
        for start in range(0, len(images), BATCH):
            metric.update(images[start : start + BATCH].to(device, torch.float32), real=is_real)
    distance: Tensor = metric.compute()
    return max(distance.item(), 0.0)  # rounding may leave it just below 0
