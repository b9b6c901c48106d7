"""CLIP as a judge: images and texts in the space that they share, in float32."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoTokenizer, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

from versatile_diffusion.checkpoints import open_modality
from versatile_diffusion.checkpoints.fingerprints import fingerprint
from versatile_diffusion.evaluation.batches import batches
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.modalities.image import clip_pixels
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.text_spec import TEXT


@dataclass(frozen=True)
class ClipNetwork:
    """The two encoders of a CLIP.

    Attributes:
        name: whose they are, with the beginning of the weights' checksum.
        vision: of images.
        text: of texts.
        tokens: returns the token ids of texts, of one length.
    """

    name: str
    vision: CLIPVisionModelWithProjection
    text: CLIPTextModelWithProjection
    tokens: Callable[[Sequence[str]], Int[Tensor, "b n"]]

    @torch.no_grad()
    def images(self, images: Sequence[Float[Tensor, "3 _ _"]]) -> Float[Tensor, "b d"]:
        """Returns the embeddings of images in [0, 1], of unit length: of their largest centre squares."""
        size = cast(int, self.vision.config.image_size)  # CLIP's images are square
        pixels = torch.stack([clip_pixels(image.cpu(), size) for image in images]).to(self.vision.device)
        return normalize(self.vision(pixel_values=pixels).image_embeds, dim=-1).cpu()

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        """Returns the embeddings of texts, of unit length, computed some at a time. What is too long is cut."""
        found: list[Tensor] = []
        for some in batches(texts):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of what is cut, which is so for every system
                ids = self.tokens(some).to(self.text.device)
            found.append(normalize(self.text(input_ids=ids).text_embeds, dim=-1).cpu())
        return torch.cat(found)


def clip_score(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Returns how well embeddings of unit length agree, pair by pair: 100 times their cosine, or 0 if it is less.

    This is torchmetrics' definition, which of images and texts, of two images and of two texts is the same.
    """
    return 100 * (a * b).sum(-1).clamp_min(0)


def model_clip(source: str, device: torch.device) -> ClipNetwork:
    """Returns the CLIP with which a model of ours reads its contexts, whatever LoRAs it is given.

    Raises:
        ValueError: if it has none; the message says what to do.
    """
    image, text = (open_modality(source, name, torch.float32) for name in (IMAGE.name, TEXT.name))
    vision = getattr(getattr(image, "context_encoder", None), "model", None)
    words = getattr(getattr(text, "context_encoder", None), "model", None)
    if not (
        isinstance(image, ImageModality)
        and isinstance(text, TextModality)
        and isinstance(vision, CLIPVisionModelWithProjection)
        and isinstance(words, CLIPTextModelWithProjection)
    ):
        raise ValueError(f"{source:.200} has no CLIP of images and texts to measure with: give one with --clip.")
    name = _named(f"{source} (its own CLIP)", vision, words)
    return ClipNetwork(name, *_on(device, vision, words), text.context_ids)


def open_clip(source: str, device: torch.device) -> ClipNetwork:
    """Returns a CLIP as transformers keeps it.

    Args:
        source: a folder, or a hub id such as openai/clip-vit-large-patch14-336, CMMD's own.
        device: to compute on.

    Raises:
        ValueError: if it cannot be opened.
    """
    try:
        vision = CLIPVisionModelWithProjection.from_pretrained(source, dtype=torch.float32)  # pyright: ignore[reportUnknownMemberType] - typed in part in transformers
        words = CLIPTextModelWithProjection.from_pretrained(source, dtype=torch.float32)  # pyright: ignore[reportUnknownMemberType] - likewise
        tokenizer = cast(Any, AutoTokenizer.from_pretrained(source))  # pyright: ignore[reportUnknownMemberType] - of any class
    except Exception as error:  # whatever transformers and the hub's client make of it
        raise ValueError(
            f"{source:.200} cannot be opened as a CLIP: {str(error) or type(error).__name__:.300} Give a folder as "
            "transformers saves it, or a hub id where there is a network."
        ) from error
    longest = int(words.config.max_position_embeddings)

    def tokens(texts: Sequence[str]) -> Int[Tensor, "b n"]:
        options = {"padding": "max_length", "truncation": True, "max_length": longest, "return_tensors": "pt"}
        ids: Tensor = tokenizer(list(texts), **options)["input_ids"]
        return ids

    name = _named(Path(source).name, vision, words)
    return ClipNetwork(name, *_on(device, vision, words), tokens)


def _on(
    device: torch.device, vision: CLIPVisionModelWithProjection, words: CLIPTextModelWithProjection
) -> tuple[CLIPVisionModelWithProjection, CLIPTextModelWithProjection]:
    """The encoders, brought to a device."""
    for encoder in (vision, words):
        nn.Module.to(encoder, device)  # in place
    return vision, words


def _named(name: str, vision: nn.Module, words: nn.Module) -> str:
    return f"{name}, weights {fingerprint(vision)} and {fingerprint(words)}"
