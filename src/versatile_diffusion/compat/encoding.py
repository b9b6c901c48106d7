"""Contexts as diffusers' pipelines make them, conventions and all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from diffusers.utils import logging
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from versatile_diffusion.diffuser import ContextTokens
from versatile_diffusion.modalities.vocabulary import tokenized

logger = logging.get_logger(__name__)

Item = TypeVar("Item")

Pair = tuple[ContextTokens, ContextTokens | None]
"""What is asked for and, where there is guidance, what stands for nothing."""


def texts(prompt: object) -> list[str]:
    """A prompt or a list of them as a list."""
    if not isinstance(prompt, str | list):
        raise ValueError(f"`prompt` has to be of type `str` or `list` but is {type(prompt)}")
    return [prompt] if isinstance(prompt, str) else cast("list[str]", prompt)  # the tokenizer says what is no text


def pictures(image: object) -> list[object]:
    """A picture or a batch of them as a list."""
    if not isinstance(image, Tensor | Image.Image | list):
        raise ValueError(f"`image` has to be a PIL image, a tensor or a list of them but is {type(image)}")
    if isinstance(image, Tensor):
        return list(image) if image.ndim == 4 else [image]
    return cast("list[object]", image) if isinstance(image, list) else [image]  # whatever is in it


def grey(count: int) -> list[object]:
    """What diffusers takes for no picture: mid-grey in [0, 1], whatever the feature extractor then makes of it."""
    return [np.full((512, 512, 3), 0.5)] * count


def negatives(given: object, negative: object, default: list[Item]) -> list[Item]:
    """The negative items, one for each item that was given.

    Raises:
        TypeError: if they are not of the same type.
        ValueError: if they are not as many.
    """
    if negative is None:
        return default
    if type(given) is not type(negative):
        raise TypeError(f"`negative_prompt` should be of the type of the prompt, {type(given)}, got {type(negative)}.")
    several = isinstance(negative, list | Tensor)
    items = list(cast("Iterable[Item]", negative)) if several else [cast("Item", negative)]  # as the type of `given`
    if len(items) != len(default):
        raise ValueError(f"`negative_prompt` has batch size {len(items)}, but the prompt has {len(default)}.")
    return items


def of_texts(pipe: Any, prompts: list[str], negative: list[str] | None, repeats: int, weight: float = 1.0) -> Pair:
    """Context tokens of texts, `repeats` in a row for each."""

    def encode(items: list[str]) -> Float[Tensor, "b n d"]:
        cut = {"padding": "max_length", "max_length": longest, "truncation": True, "return_tensors": "pt"}
        inputs = tokenized(pipe.tokenizer, items, **cut).to(pipe._execution_device)
        mask = inputs.attention_mask if getattr(encoder.config, "use_attention_mask", False) else None
        outputs = encoder(inputs.input_ids, attention_mask=mask)
        tokens = encoder.text_projection(outputs.last_hidden_state)
        return tokens / outputs.text_embeds.norm(dim=-1, keepdim=True)[:, None]

    encoder, longest = pipe.text_encoder, pipe.tokenizer.model_max_length
    for prompt in prompts:
        if len(tokenized(pipe.tokenizer, prompt, verbose=False).input_ids) > longest:
            logger.warning(f"CLIP reads {longest} tokens at most, so the end of this text is left out: {prompt!r}")
    return _pair("text", encode(prompts), encode(negative) if negative else None, repeats, weight)


def of_pictures(
    pipe: Any, images: Sequence[object], negative: Sequence[object] | None, repeats: int, weight: float = 1.0
) -> Pair:
    """Context tokens of pictures, `repeats` in a row for each."""

    def encode(items: Sequence[object]) -> Float[Tensor, "b n d"]:
        pixels = pipe.image_feature_extractor(images=list(items), return_tensors="pt").pixel_values
        hidden = encoder(pixels.to(pipe._execution_device, encoder.dtype)).last_hidden_state
        tokens = encoder.visual_projection(encoder.vision_model.post_layernorm(hidden))
        return tokens / tokens[:, :1].norm(dim=-1, keepdim=True)

    encoder = pipe.image_encoder
    return _pair("image", encode(images), encode(negative) if negative else None, repeats, weight)


def _pair(modality: str, given: Tensor, nothing: Tensor | None, repeats: int, weight: float) -> Pair:
    def context(tokens: Tensor) -> ContextTokens:
        return ContextTokens(modality, tokens.repeat_interleave(repeats, dim=0), weight)

    return context(given), None if nothing is None else context(nothing)
