"""Pipelines with the arguments, defaults and draws of diffusers 0.42, on our diffuser and sampler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Generator, Tensor

from versatile_diffusion.compat import encoding
from versatile_diffusion.compat.components import merged, opened
from versatile_diffusion.diffuser import ContextTokens
from versatile_diffusion.flows import Flow
from versatile_diffusion.guidance import Guidance, guided_denoiser
from versatile_diffusion.sampling import Schedule, sample

Callback = Callable[[int, Any, Tensor], None]
Generators = Generator | list[Generator] | None
Result = ImagePipelineOutput | tuple[Any]


class _Pipeline(DiffusionPipeline):
    """What the four share. `image_unet` becomes a `Diffuser` that holds the context layers of `text_unet`, too."""

    model_cpu_offload_seq = "text_encoder->image_encoder->image_unet->vae"
    _optional_components = ["text_unet"]  # noqa: RUF012 - the name and type that diffusers reads
    _contexts: ClassVar[tuple[str, ...]]

    def _register(self, image_unet: Any, text_unet: Any = None, **components: Any) -> None:
        unets: dict[str, Any] = {"image_unet": merged(image_unet, text_unet, self._contexts)}
        if "text" in self._contexts:
            unets["text_unet"] = None
        self.register_modules(**unets, **components)
        self.vae_scale_factor = 2 ** (len(components["vae"].config["block_out_channels"]) - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, source: str | Path, torch_dtype: torch.dtype | None = None, **options: Any
    ) -> Self:
        """Opens a model: a folder in diffusers' layout or in ours, a hub id, or "postcards".

        Args:
            source: the model.
            torch_dtype: of the weights; float32 by default, as in diffusers.
            options: components to use instead of the model's. Other options of diffusers are not needed.

        Raises:
            CheckpointError: if the source is unknown, incomplete or damaged; the message says what to do.
        """
        expected, _ = cls._get_signature_keys(cls)
        found = opened(source, [Flow(output="image", context=context) for context in cls._contexts], torch_dtype)
        found |= {name: component for name, component in options.items() if name in expected}
        return cls(**{name: found[name] for name in found if name in expected})

    def save_pretrained(self, *args: Any, **options: Any) -> None:
        """Not offered: raises NotImplementedError, and says what to do."""
        raise NotImplementedError(
            "These pipelines only read models. Open the model with versatile_diffusion.VersatileDiffusionPipeline and "
            "save that; from_pretrained opens its folders."
        )

    def remove_unused_weights(self) -> None:
        """Does nothing: weights that no flow of this pipeline uses have been left out from the start."""

    def enable_vae_tiling(self) -> None:
        """Decodes large pictures tile by tile."""
        self.vae.enable_tiling()  # pyright: ignore[reportAttributeAccessIssue]

    def disable_vae_tiling(self) -> None:
        """Decodes pictures whole."""
        self.vae.disable_tiling()  # pyright: ignore[reportAttributeAccessIssue]

    def enable_attention_slicing(self, slice_size: Any = "auto") -> None:
        """Does nothing: attention here never holds its matrix."""

    def disable_attention_slicing(self) -> None:
        """Does nothing; see `enable_attention_slicing`."""

    def _generate(
        self: Any,
        encode: Callable[[bool], list[tuple[ContextTokens, ContextTokens | None]]],
        batch: int,
        height: int | None,
        width: int | None,
        num_inference_steps: int,
        guidance_scale: float,
        eta: float,
        generator: Generators,
        latents: Tensor | None,
        output_type: str | None,
        return_dict: bool,
        callback: Callback | None,
        callback_steps: int,
    ) -> Result:
        config, factor = self.image_unet.config, self.vae_scale_factor
        sides = [side or config["sample_size"] * factor for side in (height, width)]
        _check(sides, callback_steps)
        if isinstance(generator, list) and len(generator) != batch:
            raise ValueError(f"{batch} pictures need one generator, or {batch}, got a list of {len(generator)}.")
        device = self._execution_device
        pairs = encode(guidance_scale > 1)
        conditional = [tokens for tokens, _ in pairs]
        guidance = Guidance(guidance_scale if guidance_scale > 1 else 1.0)
        denoise = guided_denoiser(self.image_unet, "image", conditional, [n for _, n in pairs if n], guidance)
        schedule = Schedule.plan(self.scheduler, num_inference_steps, device=device)
        if latents is None:
            shape = (batch, config["in_channels"], *(side // factor for side in sides))
            latents = randn_tensor(shape, generator, device, conditional[0].tokens.dtype)
        with self.progress_bar(total=len(schedule.timesteps)) as bar:

            def on_step(step: int, timestep: Tensor, latents: Tensor) -> tuple[Tensor, bool]:
                bar.update()
                if callback is not None and step % callback_steps == 0:
                    callback(step // self.scheduler.order, timestep, latents)
                return latents, True

            # one generator draws for the whole batch at once, as in diffusers
            generators = [generator] if isinstance(generator, Generator) else generator
            made = sample(denoise, latents.to(device), schedule, generators=generators, eta=eta, on_step=on_step)
        if output_type != "latent":
            made = self.vae.decode(made / self.vae.config["scaling_factor"], return_dict=False)[0]
        images: Any = self.image_processor.postprocess(made, output_type=output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)


@torch.no_grad()
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
    latents: Tensor | None = None,
    output_type: str | None = "pil",
    return_dict: bool = True,
    callback: Callback | None = None,
    callback_steps: int = 1,
    **kwargs: Any,
) -> Result:
    """Pictures of texts. The arguments are diffusers'; the unconditional is the empty text.

    Raises:
        ValueError, TypeError: if an argument is not usable; the message says what would be.
    """
    texts = encoding.texts(prompt)

    def encode(guided: bool) -> list[tuple[ContextTokens, ContextTokens | None]]:
        negative = encoding.negatives(prompt, negative_prompt, [""] * len(texts)) if guided else None
        return [encoding.of_texts(self, texts, negative, num_images_per_prompt)]

    return self._generate(
        encode, len(texts) * num_images_per_prompt, height, width, num_inference_steps, guidance_scale, eta, generator,
        latents, output_type, return_dict, callback, callback_steps,
    )  # fmt: skip


@torch.no_grad()
def image_variation(
    self: Any,
    image: Any,
    height: int | None = None,
    width: int | None = None,
    num_inference_steps: int = 50,
    guidance_scale: float = 7.5,
    negative_prompt: Any = None,
    num_images_per_prompt: int = 1,
    eta: float = 0.0,
    generator: Generators = None,
    latents: Tensor | None = None,
    output_type: str | None = "pil",
    return_dict: bool = True,
    callback: Callback | None = None,
    callback_steps: int = 1,
    **kwargs: Any,
) -> Result:
    """Pictures of pictures. The arguments are diffusers'; the unconditional is its mid-grey picture.

    Raises:
        ValueError, TypeError: if an argument is not usable; the message says what would be.
    """
    pictures = encoding.pictures(image)

    def encode(guided: bool) -> list[tuple[ContextTokens, ContextTokens | None]]:
        grey = encoding.grey(len(pictures))
        negative = encoding.negatives(image, negative_prompt, grey) if guided else None
        return [encoding.of_pictures(self, pictures, negative, num_images_per_prompt)]

    return self._generate(
        encode, len(pictures) * num_images_per_prompt, height, width, num_inference_steps, guidance_scale, eta,
        generator, latents, output_type, return_dict, callback, callback_steps,
    )  # fmt: skip


@torch.no_grad()
def dual_guided(
    self: Any,
    prompt: str | list[str],
    image: Any,
    text_to_image_strength: float = 0.5,
    height: int | None = None,
    width: int | None = None,
    num_inference_steps: int = 50,
    guidance_scale: float = 7.5,
    num_images_per_prompt: int = 1,
    eta: float = 0.0,
    generator: Generators = None,
    latents: Tensor | None = None,
    output_type: str | None = "pil",
    return_dict: bool = True,
    callback: Callback | None = None,
    callback_steps: int = 1,
    **kwargs: Any,
) -> Result:
    """Pictures of texts and pictures. The arguments are diffusers'; 1 is the text alone, 0 the picture alone.

    Raises:
        ValueError, TypeError: if an argument is not usable; the message says what would be.
    """
    texts, pictures = encoding.texts(prompt), encoding.pictures(image)
    if len(texts) != len(pictures):
        raise ValueError(f"Each prompt needs a picture: got {len(texts)} prompts and {len(pictures)} pictures.")

    def encode(guided: bool) -> list[tuple[ContextTokens, ContextTokens | None]]:
        nothing, grey = ([""] * len(texts), encoding.grey(len(texts))) if guided else (None, None)
        both = [
            encoding.of_texts(self, texts, nothing, num_images_per_prompt, text_to_image_strength),
            encoding.of_pictures(self, pictures, grey, num_images_per_prompt, 1 - text_to_image_strength),
        ]
        return [pair for pair in both if pair[0].weight]

    return self._generate(
        encode, len(texts) * num_images_per_prompt, height, width, num_inference_steps, guidance_scale, eta, generator,
        latents, output_type, return_dict, callback, callback_steps,
    )  # fmt: skip


class VersatileDiffusionTextToImagePipeline(_Pipeline):
    """Text-to-image; see `text_to_image`."""

    _contexts = ("text",)
    __call__ = text_to_image

    def __init__(
        self, tokenizer: Any, text_encoder: Any, image_unet: Any, text_unet: Any, vae: Any, scheduler: Any
    ) -> None:
        super().__init__()
        self._register(
            image_unet, text_unet, tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, scheduler=scheduler
        )


class VersatileDiffusionImageVariationPipeline(_Pipeline):
    """Image variation; see `image_variation`."""

    _contexts = ("image",)
    _optional_components = []  # noqa: RUF012 - as above
    __call__ = image_variation

    def __init__(
        self, image_feature_extractor: Any, image_encoder: Any, image_unet: Any, vae: Any, scheduler: Any
    ) -> None:
        super().__init__()
        self._register(
            image_unet,
            image_feature_extractor=image_feature_extractor,
            image_encoder=image_encoder,
            vae=vae,
            scheduler=scheduler,
        )


class VersatileDiffusionDualGuidedPipeline(_Pipeline):
    """Pictures of texts and pictures; see `dual_guided`."""

    _contexts = ("image", "text")
    __call__ = dual_guided

    def __init__(
        self,
        tokenizer: Any,
        image_feature_extractor: Any,
        text_encoder: Any,
        image_encoder: Any,
        image_unet: Any,
        text_unet: Any,
        vae: Any,
        scheduler: Any,
    ) -> None:
        super().__init__()
        self._register(
            image_unet,
            text_unet,
            tokenizer=tokenizer,
            image_feature_extractor=image_feature_extractor,
            text_encoder=text_encoder,
            image_encoder=image_encoder,
            vae=vae,
            scheduler=scheduler,
        )


class VersatileDiffusionPipeline(VersatileDiffusionDualGuidedPipeline):
    """All three flows that make pictures."""

    text_to_image = text_to_image
    image_variation = image_variation
    dual_guided = dual_guided


def _check(sides: list[int], callback_steps: Any) -> None:
    if any(side % 8 for side in sides):
        raise ValueError(f"`height` and `width` have to be divisible by 8 but are {sides[0]} and {sides[1]}.")
    if not isinstance(callback_steps, int) or callback_steps <= 0:
        raise ValueError(f"`callback_steps` has to be a positive integer but is {callback_steps!r}.")
