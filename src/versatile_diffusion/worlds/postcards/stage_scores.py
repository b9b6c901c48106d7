"""What each stage before the diffuser can do at best: training measures it before it goes on, evaluation reports it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from versatile_diffusion.evaluation.scores import Score, score
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.modalities.parts import loaded
from versatile_diffusion.worlds.postcards import Scene, parse
from versatile_diffusion.worlds.postcards.attribute_classifier import Oracle

BATCH = 128

T = TypeVar("T")


def batches(items: Sequence[T], size: int = BATCH) -> Iterator[Sequence[T]]:
    """The items in order, `size` at a time."""
    return (items[i : i + size] for i in range(0, len(items), size))


def read_attributes(oracle: Oracle, pictures: Float[Tensor, "n 3 h w"]) -> list[dict[str, str]]:
    """The attributes of any number of pictures in [0, 1], as the oracle reads them."""
    return [read for batch in pictures.split(BATCH) for read in oracle.read(batch.to(oracle.device, oracle.dtype))]


def reconstruction_accuracy(
    oracle: Oracle,
    image_modality: ImageModality,
    pictures: Sequence[Float[Tensor, "3 h w"]],
    scenes: Sequence[Scene],
) -> Score:
    """The share of the attributes that the oracle still reads from pictures that were encoded and decoded.

    Args:
        oracle: reads pictures.
        image_modality: whose autoencoder is measured.
        pictures: as `image_modality.read` returns them.
        scenes: behind the pictures.
    """
    decoded = [out for batch in batches(pictures) for out in image_modality.decode(image_modality.encode(batch))]
    return score([scene.attributes for scene in scenes], read_attributes(oracle, torch.stack(decoded)))


def text_reconstruction_accuracy(text_modality: TextModality, texts: Sequence[str]) -> float:
    """The share of the texts that name the same attributes, and no others, after they were encoded and decoded.

    Decoding takes the likeliest word each time, so nothing is drawn.
    """
    decoded = [
        out for batch in batches(texts) for out in text_modality.decode(text_modality.encode(batch), temperature=0)
    ]
    return sum(parse(a) == parse(b) for a, b in zip(texts, decoded, strict=True)) / len(texts)


@torch.no_grad()
def retrieval_accuracy(
    image_modality: ImageModality,
    text_modality: TextModality,
    pictures: Sequence[Float[Tensor, "3 h w"]],
    texts: Sequence[str],
    choices: int = 64,
) -> float:
    """How often the context encoders pick a picture's own text among `choices`: it and those that follow it.

    Raises:
        ValueError: if there are fewer texts than choices, or not one for each picture.
    """
    if not len(pictures) == len(texts) >= choices:
        raise ValueError(f"{choices} choices need as many pictures and texts, got {len(pictures)} and {len(texts)}.")
    encoder = loaded(text_modality.context_encoder, "text context encoder", "from texts")
    seen = torch.cat([image_modality.embed(batch)[:, 0] for batch in batches(pictures)]).float()
    ids = [text_modality.context_ids(batch) for batch in batches(texts)]
    said = torch.cat([normalize(encoder.model(input_ids=i).text_embeds.float(), dim=-1) for i in ids])
    similarity = seen @ said.T
    offered = (torch.arange(len(texts))[:, None] + torch.arange(choices)) % len(texts)  # one's own text first
    picked = similarity.gather(1, offered.to(similarity.device)).argmax(1)
    return (picked == 0).float().mean().item()
