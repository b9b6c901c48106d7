"""Components in diffusers' layout, and the diffuser that two of its U-Nets make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CLIPImageProcessor

from versatile_diffusion.checkpoints import open_source
from versatile_diffusion.checkpoints.components import empty
from versatile_diffusion.checkpoints.diffusers_parts import unet_sizes, unet_tensors
from versatile_diffusion.checkpoints.sources import locate
from versatile_diffusion.diffuser import ConvolutionalLayers, Diffuser
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.modalities.image_spec import pixels_per_position


def merged(image_unet: nn.Module, text_unet: nn.Module | None, contexts: Sequence[str]) -> Diffuser:
    """One diffuser that makes pictures, of the data layers of one U-Net and the context layers of both.

    No tensor is copied. The data layers of `text_unet` are left out: pictures do not need them.

    Args:
        image_unet: diffusers' UNet2DConditionModel, or a diffuser, which is returned as it is.
        text_unet: diffusers' UNetFlatConditionModel, or None if `image_unet` holds the layers of all contexts, as it
            does where diffusers' text-to-image or dual-guided pipeline has dropped unused weights.
        contexts: modalities of the contexts.

    Raises:
        CheckpointError: if they are U-Nets of another kind.
        ValueError: if a U-Net is missing.
    """
    if isinstance(image_unet, Diffuser):
        return image_unet
    config: Any = image_unet.config
    dual = config.get("dual_cross_attention")
    if text_unet is None and not dual and len(contexts) > 1:
        raise ValueError("text_unet is missing: pass it, for its layers attend to texts.")
    channels: int = config["in_channels"]
    width: int = config["cross_attention_dim"]
    diffuser = empty(
        lambda: Diffuser(
            unet_sizes(config, "image_unet"),
            {"image": lambda plan: ConvolutionalLayers(plan, channels)},
            dict.fromkeys(contexts, width),
        )
    )
    held = ("image", "text") if dual else contexts if text_unet is None else ("image",)
    tensors = unet_tensors(image_unet.state_dict(), "image", held, diffuser, "image_unet")
    if text_unet is not None and not dual:
        tensors = unet_tensors(text_unet.state_dict(), "text", ("text",), diffuser, "text_unet") | tensors
    diffuser.load_state_dict(tensors, assign=True)
    sizes: dict[str, int] = {"in_channels": channels, "sample_size": config["sample_size"]}
    diffuser.register_to_config(**sizes)  # pyright: ignore[reportUnknownMemberType] - diffusers does not type it
    return diffuser.eval()


def opened(source: str | Path, flows: Iterable[Flow], dtype: torch.dtype | None) -> dict[str, Any]:
    """The components of any model, under diffusers' names; `image_unet` is a diffuser already.

    Raises:
        CheckpointError: see `open_source`.
    """
    flows = list(flows)
    place = locate(source, flows)
    parts = open_source(place, flows, torch_dtype=dtype or torch.float32)
    found: dict[str, Any] = {"image_unet": parts.diffuser, "text_unet": None, "scheduler": parts.scheduler}
    for modality in parts.modalities.values():
        if isinstance(modality, ImageModality):
            found |= _of_pictures(modality, place)
        if isinstance(modality, TextModality) and modality.context_encoder is not None:
            found |= {"text_encoder": modality.context_encoder.model, "tokenizer": modality.tokenizers.clip}
            found["tokenizer"].model_max_length = modality.context_encoder.max_length
    vae: Any = found["vae"].config
    factor = pixels_per_position(vae)
    sizes: dict[str, int] = {"in_channels": vae["latent_channels"], "sample_size": vae["sample_size"] // factor}
    parts.diffuser.register_to_config(**sizes)  # pyright: ignore[reportUnknownMemberType] - diffusers does not type it
    return found


def _of_pictures(modality: ImageModality, place: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if modality.autoencoder is not None:
        factor: float = modality.config["scaling_factor"]
        modality.autoencoder.register_to_config(scaling_factor=factor)  # pyright: ignore[reportUnknownMemberType] - diffusers does not type it
        found["vae"] = modality.autoencoder
    if modality.context_encoder is not None:
        size, saved = modality.context_encoder.image_size, place / "image_feature_extractor"
        found["image_encoder"] = modality.context_encoder.model
        found["image_feature_extractor"] = (
            CLIPImageProcessor.from_pretrained(  # pyright: ignore[reportUnknownMemberType] - nor does transformers
                saved, local_files_only=True
            )
            if saved.is_dir()
            else CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
        )
    return found
