"""The two context encoders learn together which caption belongs to which picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int64, UInt8
from numpy import ndarray
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from versatile_diffusion.modalities.clip import ClipImageEncoder, ClipTextEncoder
from versatile_diffusion.modalities.image import normalize_for_clip
from versatile_diffusion.training.task import Batch, Pass, Task
from versatile_diffusion.worlds.postcards.classifier_task import to_pictures


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


def nearly_equal(labels: Int64[Tensor, "n attributes"]) -> Int64[Tensor, "n attributes"]:
    """For each sample and attribute, another sample that differs in that attribute alone; itself if there is none."""
    found = torch.arange(len(labels))[:, None].repeat(1, labels.shape[1])
    for attribute in range(labels.shape[1]):
        groups: dict[tuple[int, ...], list[int]] = {}
        others = torch.cat([labels[:, :attribute], labels[:, attribute + 1 :]], dim=1)
        for index, key in enumerate(map(tuple, others.tolist())):
            groups.setdefault(key, []).append(index)
        for group in groups.values():
            values = labels[group, attribute].tolist()
            for place, index in enumerate(group):
                turned = range(place + 1, place + len(group))
                other = next((i % len(group) for i in turned if values[i % len(group)] != values[place]), place)
                found[index, attribute] = group[other]
    return found


class ClipTask(Task[ClipPair]):
    """The symmetric contrastive loss of CLIP (arXiv 2103.00020). Each process compares within its own samples.

    Where random samples can be told apart by some of their attributes, the others are never learnt. So every second
    sample is one that differs from the sample before it in a single attribute, if there is such a one.

    Args:
        pair: to train.
        images: uint8 (n h w 3).
        captions: token ids of some captions of each picture (n views length).
        labels: index of each attribute's value.
        twins_in: how often the single attribute is each of the attributes, relative to the others.
    """

    def __init__(
        self,
        pair: ClipPair,
        images: UInt8[ndarray, "n h w 3"],
        captions: Int64[Tensor, "n views length"],
        labels: Int64[Tensor, "n attributes"],
        twins_in: Sequence[float] | None = None,
    ) -> None:
        self.model, self.images, self.captions = pair, images, captions
        self.twins = nearly_equal(labels)
        self.twins_in = torch.ones(labels.shape[1]) if twins_in is None else torch.tensor(twins_in)

    def draw(self, generator: Generator, size: int) -> Batch:
        """See `Task.draw`."""
        index = torch.randint(len(self.images), (size,), generator=generator)
        attribute = torch.multinomial(self.twins_in, size, replacement=True, generator=generator)
        index[1::2] = self.twins[index[:-1:2], attribute[:-1:2]]
        view = torch.randint(self.captions.shape[1], (size,), generator=generator)
        return {"images": torch.from_numpy(self.images[index.numpy()]), "captions": self.captions[index, view]}

    def passes(self, batch: Batch) -> Iterator[Pass]:
        """See `Task.passes`."""

        def compare() -> dict[str, Tensor]:
            scores = self.model.similarities(to_pictures(batch["images"]), batch["captions"])
            partner = torch.arange(len(scores), device=scores.device)
            return {"contrastive": (cross_entropy(scores, partner) + cross_entropy(scores.T, partner)) / 2}

        yield compare
