"""Fréchet distance of postcards, between the oracle's features.

It is computed as the FID is (arXiv 1706.08500), but the features are the oracle's, not Inception's: the number cannot
be compared with anyone's FID, only with other numbers of the same oracle and the same number of pictures. So few
pictures bias it upwards, hence the floor to read it against.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from versatile_diffusion.extras import require
from versatile_diffusion.worlds.postcards.attribute_classifier import Oracle
from versatile_diffusion.worlds.postcards.stage_scores import BATCH


class OracleFeatures(nn.Module):
    """The oracle's last features, averaged over the picture."""

    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self.oracle = oracle
        self.num_features: int = oracle.config["widths"][-1]  # where torchmetrics looks for it

    @torch.no_grad()
    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Features of pictures in [0, 1]."""
        return self.oracle.features(pictures)[-1].mean((2, 3))


def frechet_distance(oracle: Oracle, real: Float[Tensor, "n 3 h w"], generated: Float[Tensor, "m 3 h w"]) -> float:
    """The distance between two sets of pictures in [0, 1], of two or more each: 0 if their features are the same.

    Raises:
        ImportError: if torchmetrics is not installed.
    """
    require("torchmetrics", "Evaluation", "evaluate")
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(OracleFeatures(oracle), normalize=True).to(oracle.device)
    for pictures, is_real in ((real, True), (generated, False)):
        for batch in pictures.split(BATCH):
            metric.update(batch.to(oracle.device, oracle.dtype), real=is_real)
    return max(metric.compute().item(), 0.0)  # rounding may leave it just below 0
