"""Pipelines with the names, components and defaults of diffusers 0.42, on our diffuser and sampler."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import nn

from versatile_diffusion.compat import flows
from versatile_diffusion.compat.components import merged, opened
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.image_spec import pixels_per_position

_OF_DOWNLOADS = (
    *("cache_dir", "force_download", "local_files_only", "mirror"),
    *("proxies", "revision", "token", "use_auth_token"),
)
_OF_FILES = (
    *("disable_mmap", "low_cpu_mem_usage", "offload_folder", "offload_state_dict", "trust_remote_code"),
    *("use_flashpack", "use_onnx", "use_safetensors", "variant"),
)
"""Options that nothing is lost without: weights are found in any format, are never held twice, and bring no code."""


class _Pipeline(DiffusionPipeline):
    """What the four share. `image_unet` becomes a `Diffuser` that holds the context layers of `text_unet`, too."""

    model_cpu_offload_seq = "text_encoder->image_encoder->image_unet->vae"
    _optional_components = ["text_unet"]  # noqa: RUF012 - the name and type that diffusers reads
    _contexts: ClassVar[tuple[str, ...]]

    def _register(self, image_unet: nn.Module, text_unet: nn.Module | None = None, **components: Any) -> None:
        unets: dict[str, Any] = {"image_unet": merged(image_unet, text_unet, self._contexts)}
        if "text" in self._contexts:
            unets["text_unet"] = None
        self.register_modules(**unets, **components)  # pyright: ignore[reportUnknownMemberType] - diffusers does not type it
        self.vae_scale_factor = pixels_per_position(components["vae"].config)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        source: str | Path,
        torch_dtype: torch.dtype | None = None,
        *,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> Self:
        """Opens a model: a folder in diffusers' layout or in ours, a hub id, or "postcards".

        Args:
            source: the model.
            torch_dtype: of the weights; float32 by default, as in diffusers.
            dtype: its newer name.
            options: components to use instead of the model's. A UserWarning names other options of diffusers that ask
                for something: they are left out.

        Raises:
            CheckpointError: if the source is unknown, incomplete or damaged; the message says what to do.
        """
        expected, _ = cls._get_signature_keys(cls)  # pyright: ignore[reportUnknownMemberType] - nor that
        components = {name: options.pop(name) for name in list(options) if name in expected}
        if left_out := _unmet(options, source):
            warnings.warn(
                f"from_pretrained leaves out {', '.join(left_out)}. For downloads, set the environment variables "
                "HF_HOME, HF_TOKEN and HF_HUB_OFFLINE before Python starts, or pass a folder that `hf download` made, "
                "which takes a --revision. To place the pipeline, call its `to`.",
                UserWarning,
                stacklevel=2,
            )
        wanted = [Flow(output="image", context=context) for context in cls._contexts]
        found = opened(source, wanted, torch_dtype or dtype) | components
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

    def enable_attention_slicing(self, slice_size: object = "auto") -> None:
        """Does nothing: attention here never holds its matrix."""

    def disable_attention_slicing(self) -> None:
        """Does nothing; see `enable_attention_slicing`."""


class VersatileDiffusionTextToImagePipeline(_Pipeline):
    """Text-to-image; see `flows.text_to_image`."""

    _contexts = ("text",)
    __call__ = flows.text_to_image

    def __init__(
        self,
        tokenizer: object,
        text_encoder: object,
        image_unet: nn.Module,
        text_unet: nn.Module | None,
        vae: object,
        scheduler: object,
    ) -> None:
        super().__init__()
        self._register(
            image_unet, text_unet, tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, scheduler=scheduler
        )


class VersatileDiffusionImageVariationPipeline(_Pipeline):
    """Image variation; see `flows.image_variation`."""

    _contexts = ("image",)
    _optional_components = []  # noqa: RUF012 - as above
    __call__ = flows.image_variation

    def __init__(
        self,
        image_feature_extractor: object,
        image_encoder: object,
        image_unet: nn.Module,
        vae: object,
        scheduler: object,
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
    """Pictures of texts and pictures; see `flows.dual_guided`."""

    _contexts = ("image", "text")
    __call__ = flows.dual_guided

    def __init__(
        self,
        tokenizer: object,
        image_feature_extractor: object,
        text_encoder: object,
        image_encoder: object,
        image_unet: nn.Module,
        text_unet: nn.Module | None,
        vae: object,
        scheduler: object,
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

    text_to_image = flows.text_to_image
    image_variation = flows.image_variation
    dual_guided = flows.dual_guided


def _unmet(options: Mapping[str, Any], source: str | Path) -> list[str]:
    """The options that ask for something which is not done here."""
    met = _OF_FILES + (_OF_DOWNLOADS if Path(source).expanduser().exists() else ())
    return [name for name, value in options.items() if value is not None and value is not False and name not in met]
