"""The two context encoders learn together which caption belongs to which picture."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64, UInt8
from numpy import ndarray
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from versatile_diffusion.modalities.clip import ClipImageEncoder, ClipTextEncoder
from versatile_diffusion.modalities.image import normalize_for_clip
from versatile_diffusion.training.task import Batch, Pass, Task
from versatile_diffusion.training.tasks.oracle import to_pictures


class ClipPair(nn.Module):
    """Both encoders and the temperature of their comparison."""

    def __init__(self, image: ClipImageEncoder, text: ClipTextEncoder) -> None:
        super().__init__()
        self.image, self.text = image, text
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def similarities(self, images: Float[Tensor, "b 3 h w"], ids: Int64[Tensor, "b n"]) -> Float[Tensor, "b b"]:
        """Cosine of each picture (row) with each caption (column), scaled."""
        picture = self.image(normalize_for_clip(images))[:, 0]
        caption = self.text.model(input_ids=ids).text_embeds
        caption = caption / caption.norm(dim=-1, keepdim=True)
        return picture @ caption.T * self.logit_scale.clamp(max=math.log(100)).exp()


class ClipTask(Task[ClipPair]):
    """The symmetric contrastive loss of CLIP (arXiv 2103.00020). Each process compares within its own samples.

    Args:
        pair: to train.
        images: uint8 (n h w 3).
        captions: token ids of some captions of each picture (n views length).
    """

    def __init__(
        self, pair: ClipPair, images: UInt8[ndarray, "n h w 3"], captions: Int64[Tensor, "n views length"]
    ) -> None:
        self.model, self.images, self.captions = pair, images, captions

    def draw(self, generator: Generator, size: int) -> Batch:
        """See `Task.draw`."""
        index = torch.randint(len(self.images), (size,), generator=generator)
        view = torch.randint(self.captions.shape[1], (size,), generator=generator)
        return {"images": torch.from_numpy(self.images[index.numpy()]), "captions": self.captions[index, view]}

    def passes(self, batch: Batch) -> Iterator[Pass]:
        """See `Task.passes`."""

        def compare() -> dict[str, Tensor]:
            scores = self.model.similarities(to_pictures(batch["images"]), batch["captions"])
            partner = torch.arange(len(scores), device=scores.device)
            return {"contrastive": (cross_entropy(scores, partner) + cross_entropy(scores.T, partner)) / 2}

        yield compare
