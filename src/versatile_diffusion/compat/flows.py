"""The flows with the arguments and defaults of diffusers 0.42. A body encodes the contexts; the rest is shared."""

from __future__ import annotations

from typing import Any

from versatile_diffusion.compat import encoding
from versatile_diffusion.compat.drawing import Callback, Generators, draws_pictures


@draws_pictures
def text_to_image(
    self: Any,
    prompt: str | list[str],
    height: int | None = None,
    width: int | None = None,
    num_inference_steps: int = 50,
    guidance_scale: float = 7.5,
    negative_prompt: str | list[str] | None = None,
    num_images_per_prompt: int = 1,
    eta: float = 0.0,
    generator: Generators = None,
    latents: object = None,
    output_type: str | None = "pil",
    return_dict: bool = True,
    callback: Callback | None = None,
    callback_steps: int = 1,
    **kwargs: object,
) -> list[encoding.Pair]:
    """Pictures of texts. The arguments are diffusers'; the unconditional is the empty text.

    Raises:
        ValueError, TypeError: if an argument is not usable; the message says what would be.
    """
    texts = encoding.texts(prompt)
    nothing = encoding.negatives(prompt, negative_prompt, [""] * len(texts)) if guidance_scale > 1 else None
    return [encoding.of_texts(self, texts, nothing, num_images_per_prompt)]


@draws_pictures
def image_variation(
    self: Any,
    image: object,
    height: int | None = None,
    width: int | None = None,
    num_inference_steps: int = 50,
    guidance_scale: float = 7.5,
    negative_prompt: object = None,
    num_images_per_prompt: int = 1,
    eta: float = 0.0,
    generator: Generators = None,
    latents: object = None,
    output_type: str | None = "pil",
    return_dict: bool = True,
    callback: Callback | None = None,
    callback_steps: int = 1,
    **kwargs: object,
) -> list[encoding.Pair]:
    """Pictures of pictures. The arguments are diffusers'; the unconditional is its mid-grey picture.

    Raises:
        ValueError, TypeError: if an argument is not usable; the message says what would be.
    """
    pictures = encoding.pictures(image)
    grey = encoding.grey(len(pictures))
    nothing = encoding.negatives(image, negative_prompt, grey) if guidance_scale > 1 else None
    return [encoding.of_pictures(self, pictures, nothing, num_images_per_prompt)]


@draws_pictures
def dual_guided(
    self: Any,
    prompt: str | list[str],
    image: object,
    text_to_image_strength: float = 0.5,
    height: int | None = None,
    width: int | None = None,
    num_inference_steps: int = 50,
    guidance_scale: float = 7.5,
    num_images_per_prompt: int = 1,
    eta: float = 0.0,
    generator: Generators = None,
    latents: object = None,
    output_type: str | None = "pil",
    return_dict: bool = True,
    callback: Callback | None = None,
    callback_steps: int = 1,
    **kwargs: object,
) -> list[encoding.Pair]:
    """Pictures of texts and pictures. The arguments are diffusers'; 1 is the text alone, 0 the picture alone.

    Raises:
        ValueError, TypeError: if an argument is not usable; the message says what would be.
    """
    texts, pictures = encoding.texts(prompt), encoding.pictures(image)
    if len(texts) != len(pictures):
        raise ValueError(f"Each prompt needs a picture: got {len(texts)} prompts and {len(pictures)} pictures.")
    nothing, grey = ([""] * len(texts), encoding.grey(len(texts))) if guidance_scale > 1 else (None, None)
    self.set_transformer_params(text_to_image_strength)  # which calls of `image_unet` by hand go on from
    both = [
        encoding.of_texts(self, texts, nothing, num_images_per_prompt, text_to_image_strength),
        encoding.of_pictures(self, pictures, grey, num_images_per_prompt, 1 - text_to_image_strength),
    ]
    return [pair for pair in both if pair[0].weight]
