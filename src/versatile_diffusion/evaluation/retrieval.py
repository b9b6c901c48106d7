"""How well context encoders of images and texts agree."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from versatile_diffusion.evaluation.batches import batches
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.modalities.parts import loaded


@torch.no_grad()
def retrieval_accuracy(
    image_modality: ImageModality,
    text_modality: TextModality,
    images: Sequence[Float[Tensor, "3 h w"]],
    texts: Sequence[str],
    choices: int = 64,
) -> float:
    """Returns how often the context encoders pick an image's own text among `choices`: it and those that follow it.

    Args:
        image_modality: whose context encoder is measured.
        text_modality: whose context encoder is measured.
        images: as `image_modality.read` returns them.
        texts: one of each image.
        choices: how many texts there are to pick from.

    Raises:
        ValueError: if there are fewer texts than choices, or not one for each image.
    """
    if not len(images) == len(texts) >= choices:
        raise ValueError(f"{choices} choices need as many images and texts, got {len(images)} and {len(texts)}.")
    encoder = loaded(text_modality.context_encoder, "text context encoder", "from texts")
    seen = torch.cat([image_modality.embed(batch)[:, 0] for batch in batches(images)]).float()
    ids = [text_modality.context_ids(batch) for batch in batches(texts)]
    said = torch.cat([normalize(encoder.model(input_ids=i).text_embeds.float(), dim=-1) for i in ids])
    similarity = seen @ said.T
    offered = (torch.arange(len(texts))[:, None] + torch.arange(choices)) % len(texts)  # one's own text first
    picked = similarity.gather(1, offered.to(similarity.device)).argmax(1)
    return (picked == 0).float().mean().item()
