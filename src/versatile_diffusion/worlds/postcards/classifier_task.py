"""The oracle learns to read rendered pictures."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Int64, UInt8
from numpy import ndarray
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy, interpolate

from versatile_diffusion.training.task import Batch, Pass, Task
from versatile_diffusion.worlds.postcards import ATTRIBUTES
from versatile_diffusion.worlds.postcards.attribute_classifier import Oracle


def to_pictures(images: UInt8[Tensor, "b h w 3"]) -> Tensor:
    """Floats (b 3 h w) in [0, 1]."""
    return images.permute(0, 3, 1, 2).float().div(255)


class OracleTask(Task[Oracle]):
    """Cross-entropy of every attribute.

    Half of the pictures are blurred a little, so that the reading does not hang on single pixels.

    Args:
        oracle: the classifier.
        images: uint8 (n h w 3).
        labels: index of each attribute's value (n attributes).
    """

    def __init__(
        self, oracle: Oracle, images: UInt8[ndarray, "n h w 3"], labels: Int64[Tensor, "n attributes"]
    ) -> None:
        self.model, self.images, self.labels = oracle, images, labels

    def draw(self, generator: Generator, size: int) -> Batch:
        """See `Task.draw`."""
        index = torch.randint(len(self.images), (size,), generator=generator)
        return {
            "images": torch.from_numpy(self.images[index.numpy()]),
            "labels": self.labels[index],
            "blur": torch.rand(size, 1, 1, 1, generator=generator) < 0.5,
        }

    def passes(self, batch: Batch) -> Iterator[Pass]:
        """See `Task.passes`."""

        def read() -> dict[str, Tensor]:
            images = to_pictures(batch["images"])
            coarse = interpolate(images, scale_factor=0.5, mode="area")
            images = torch.where(batch["blur"], interpolate(coarse, scale_factor=2.0, mode="bilinear"), images)
            scores = self.model(images)
            wrong = [cross_entropy(scores[name], batch["labels"][:, i]) for i, name in enumerate(ATTRIBUTES)]
            return {"cross-entropy": torch.stack(wrong).sum()}

        yield read
