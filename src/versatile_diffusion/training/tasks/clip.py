"""The two context encoders learn together which caption belongs to which image."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64, UInt8
from numpy import ndarray
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from versatile_diffusion._moved import former_names
from versatile_diffusion.modalities.clip import ClipImageEncoder, ClipTextEncoder
from versatile_diffusion.modalities.image import normalize_for_clip
from versatile_diffusion.training.loop.task import Batch, Pass, Task
from versatile_diffusion.training.tasks.data import HardNegatives, drawn_samples, to_floats

__getattr__ = former_names(
    __name__,
    {
        "nearly_equal": "versatile_diffusion.training.tasks.data:differing_in_one",
    },
)


class ClipPair(nn.Module):
    """Both context encoders, and the temperature at which they are compared."""

    def __init__(self, image: ClipImageEncoder, text: ClipTextEncoder) -> None:
        super().__init__()
        self.image, self.text = image, text
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def similarities(self, images: Float[Tensor, "b 3 h w"], ids: Int64[Tensor, "b n"]) -> Float[Tensor, "b b"]:
        """Returns the scaled cosine of each image (row) with each caption (column)."""
        image = self.image(as_clip_takes(images, self.image.image_size))[:, 0]
        caption = self.text.model(input_ids=ids).text_embeds
        caption = caption / caption.norm(dim=-1, keepdim=True)
        return image @ caption.T * self.logit_scale.clamp(max=math.log(100)).exp()


def as_clip_takes(images: Float[Tensor, "b 3 h w"], size: int) -> Float[Tensor, "b 3 size size"]:
    """Returns square images in [0, 1] in the size that CLIP takes, normalised; gradients go through it."""
    if images.shape[-2:] != (size, size):
        images = interpolate(images.float(), size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)
    return normalize_for_clip(images)


class ClipTask(Task[ClipPair]):
    """The symmetric contrastive loss of CLIP (arXiv 2103.00020). Each process compares within its own samples.

    Where random samples can be told apart by some of what they show, the rest is never learnt. So where there are hard
    negatives, every second sample is one that is nearly like the sample before it.

    Args:
        pair: to train.
        images: all images.
        captions: token ids of some captions of each image.
        hard_negatives: for each image some that are nearly like it, where the data knows them.
    """

    def __init__(
        self,
        pair: ClipPair,
        images: UInt8[ndarray, "n h w 3"],
        captions: Int64[Tensor, "n views length"],
        hard_negatives: HardNegatives | None = None,
    ) -> None:
        self.model, self.images, self.captions, self.hard_negatives = pair, images, captions, hard_negatives

    def draw(self, generator: Generator, size: int) -> Batch:
        """See `Task.draw`."""
        index = drawn_samples(len(self.images), size, generator, self.hard_negatives)
        view = torch.randint(self.captions.shape[1], (size,), generator=generator)
        return {"images": torch.as_tensor(self.images[index.numpy()]), "captions": self.captions[index, view]}

    def passes(self, batch: Batch) -> Iterator[Pass]:
        """See `Task.passes`."""

        def compare() -> dict[str, Tensor]:
            return {"contrastive": contrast(self.model.similarities(to_floats(batch["images"]), batch["captions"]))}

        yield compare


def contrast(similarities: Float[Tensor, "b b"]) -> Float[Tensor, ""]:
    """Returns the symmetric contrastive loss of scaled cosines, whose diagonal holds what belongs together."""
    partner = torch.arange(len(similarities), device=similarities.device)
    return (cross_entropy(similarities, partner) + cross_entropy(similarities.T, partner)) / 2
