"""What each stage before the diffuser can do at best: training measures it before it goes on, evaluation reports it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_diffusion.evaluation.attribute_scores import Score, score
from versatile_diffusion.evaluation.batches import BATCH, batches
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.worlds.postcards.attribute_classifier import AttributeClassifier
from versatile_diffusion.worlds.postcards.data import ATTRIBUTES, Scene, parse


def read_attributes(classifier: AttributeClassifier, images: Float[Tensor, "n 3 h w"]) -> list[dict[str, str]]:
    """Returns the attributes of any number of images in [0, 1], as the classifier reads them."""
    parts = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    return [read for part in parts for read in classifier.read(part.to(classifier.device, classifier.dtype))]


def reconstruction_accuracy(
    classifier: AttributeClassifier,
    image_modality: ImageModality,
    images: Sequence[Float[Tensor, "3 h w"]],
    scenes: Sequence[Scene],
) -> Score:
    """Returns the share of the attributes that the classifier still reads from images that were encoded and decoded.

    Args:
        classifier: reads images.
        image_modality: whose autoencoder is measured.
        images: as `image_modality.read` returns them.
        scenes: behind the images.
    """
    decoded = [out for batch in batches(images) for out in image_modality.decode(image_modality.encode(batch))]
    return score([scene.attributes for scene in scenes], read_attributes(classifier, torch.stack(decoded)), ATTRIBUTES)


def text_reconstruction_accuracy(text_modality: TextModality, texts: Sequence[str]) -> float:
    """Returns the share of the texts that name the same attributes, and no others, after they were encoded and decoded.

    Decoding takes the likeliest word each time, so nothing is drawn.
    """
    decoded = [
        out for batch in batches(texts) for out in text_modality.decode(text_modality.encode(batch), temperature=0)
    ]
    return sum(parse(a) == parse(b) for a, b in zip(texts, decoded, strict=True)) / len(texts)
