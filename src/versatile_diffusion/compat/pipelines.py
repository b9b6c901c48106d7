"""Pipelines with the names, components and defaults of diffusers 0.42, on our diffuser and sampler."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import nn

from versatile_diffusion import kernels
from versatile_diffusion.compat import flows
from versatile_diffusion.compat.attention import DualTransformer2DModel
from versatile_diffusion.compat.components import merged, opened, sample_size
from versatile_diffusion.compat.unets import UNet2DConditionModel, UNetFlatConditionModel
from versatile_diffusion.diffuser import Diffuser
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
    """What the four share. `image_unet` and `text_unet` become views of one diffuser; see `unets`."""

    model_cpu_offload_seq = "text_encoder->image_encoder->image_unet->vae"
    _optional_components = ["text_unet"]  # noqa: RUF012 - the name and type that diffusers reads
    _contexts: ClassVar[tuple[str, ...]]
    _attends: ClassVar[tuple[str, ...]]  # what `image_unet` attends to

    def _register(self, image_unet: nn.Module, text_unet: nn.Module | None = None, **components: Any) -> None:
        network = merged(image_unet, text_unet, self._contexts)
        size = sample_size(image_unet, components["vae"])
        seen = isinstance(image_unet, UNet2DConditionModel) and image_unet.contexts == self._attends
        unets: dict[str, Any] = {
            "image_unet": image_unet if seen else UNet2DConditionModel(network, self._attends, size)
        }
        if "text" in self._contexts:
            keeps = text_unet is not None or isinstance(image_unet, Diffuser)  # not where it was left out before
            unets["text_unet"] = UNetFlatConditionModel(network, size) if keeps else None
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
        text_unet: nn.Module | bool | None = None,
        **options: Any,
    ) -> Self:
        """Opens a model: a folder in diffusers' layout or in ours, a hub id, or "postcards".

        Args:
            source: the model.
            torch_dtype: of the weights; float32 by default, as in diffusers.
            dtype: its newer name.
            text_unet: True to open what makes texts as well. Otherwise `text_unet` holds only what attends to texts,
                which it shares with `image_unet`, and cannot be called.
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
        if text_unet is True:
            wanted.append(Flow(output="text", context="text"))
        found = opened(source, wanted, torch_dtype or dtype) | components
        if isinstance(text_unet, nn.Module):
            found["text_unet"] = text_unet
        return cls(**{name: found[name] for name in found if name in expected})

    def save_pretrained(self, *args: Any, **options: Any) -> None:
        """Not offered: raises NotImplementedError, and says what to do."""
        raise NotImplementedError(
            "These pipelines only read models. Open the model with versatile_diffusion.VersatileDiffusionPipeline and "
            "save that; from_pretrained opens its folders."
        )

    def remove_unused_weights(self) -> None:
        """Leaves out `text_unet`. What `image_unet` shares with it stays."""
        if "text" in self._contexts:
            self.register_modules(text_unet=None)  # pyright: ignore[reportUnknownMemberType] - as above

    def enable_sequential_cpu_offload(self, *args: Any, **options: Any) -> None:
        """Brings each layer to the accelerator when it is needed. Leaves out `text_unet`, whose layers are shared."""
        self.remove_unused_weights()
        self.unpack()
        super().enable_sequential_cpu_offload(*args, **options)

    def enable_group_offload(  # pyright: ignore[reportIncompatibleMethodOverride] - it groups otherwise
        self,
        onload_device: torch.device | str,
        offload_device: torch.device | str = "cpu",
        offload_type: str = "leaf_level",
        **options: Any,
    ) -> None:
        """Brings each layer to the accelerator when it is needed. Leaves out `text_unet`, whose layers are shared.

        Raises:
            ValueError: if the type is another than "leaf_level": blocks of `image_unet` are not what computes.
        """
        if offload_type != "leaf_level":
            raise ValueError(f'offload_type must be "leaf_level" here, got {offload_type!r}.')
        self.remove_unused_weights()
        self.unpack()
        super().enable_group_offload(torch.device(onload_device), torch.device(offload_device), offload_type, **options)

    def pack(self) -> None:
        """Makes `image_unet` and `vae` quicker on the CPU where no gradient is asked for.

        What comes out is the same but for rounding. They then hold no weights to train, and take no LoRAs, until
        `unpack` is called, as `image_unet.requires_grad_` and `image_unet.add_adapter` do.
        """
        for part in self._packable():
            kernels.optimize(part)

    def unpack(self) -> None:
        """Brings back what `pack` replaced."""
        for part in self._packable():
            kernels.restore(part)

    def _packable(self) -> list[nn.Module]:
        components: Any = self.components
        return [components["image_unet"].brought(), components["vae"]]

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

    _contexts = _attends = ("text",)
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

    _contexts = _attends = ("image",)
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

    _contexts = _attends = ("image", "text")
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

    def set_transformer_params(
        self, mix_ratio: float = 0.5, condition_types: Sequence[Literal["text", "image"]] = ("text", "image")
    ) -> None:
        """Tells what attends in `image_unet` how the conditions are mixed, and in which order they come.

        Args:
            mix_ratio: share of the first condition.
            condition_types: their order in `encoder_hidden_states`. A text has as many tokens as its encoder takes; an
                image as many as its encoder makes, or what is left, up to diffusers' 257, if it comes last.
        """
        text, vision = (self.components[name].config for name in ("text_encoder", "image_encoder"))
        tokens = 1 + (vision.image_size // vision.patch_size) ** 2
        last: int = 257 if condition_types[-1] == "image" else tokens
        lengths: dict[str, int] = {"text": text.max_position_embeddings, "image": last}
        for module in self.components["image_unet"].modules():
            if isinstance(module, DualTransformer2DModel):
                module.mix_ratio = mix_ratio
                module.condition_lengths = [lengths[kind] for kind in condition_types]
                module.transformer_index_for_condition = [int(kind == "text") for kind in condition_types]


class VersatileDiffusionPipeline(VersatileDiffusionDualGuidedPipeline):
    """All three flows that make pictures. As in diffusers, its `image_unet` attends to images alone."""

    _attends = ("image",)
    text_to_image = flows.text_to_image
    image_variation = flows.image_variation
    dual_guided = flows.dual_guided


def _unmet(options: Mapping[str, Any], source: str | Path) -> list[str]:
    """The options that ask for something which is not done here."""
    met = _OF_FILES + (_OF_DOWNLOADS if Path(source).expanduser().exists() else ())
    return [name for name, value in options.items() if value is not None and value is not False and name not in met]
