"""Components in diffusers' layout, and the diffuser that its two U-Nets make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import CLIPImageProcessor

from versatile_diffusion.checkpoints import open_source
from versatile_diffusion.checkpoints.components import empty
from versatile_diffusion.checkpoints.diffusers_parts import text_sizes, unet_sizes, unet_tensors
from versatile_diffusion.checkpoints.sources import locate
from versatile_diffusion.compat.unets import UNet2DConditionModel, UNetFlatConditionModel
from versatile_diffusion.diffuser import ConvolutionalLayers, Diffuser, FullyConnectedLayers
from versatile_diffusion.diffuser.model import DataLayersFactory
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.modalities.image_spec import pixels_per_position


def merged(image_unet: nn.Module, text_unet: nn.Module | None, contexts: Sequence[str]) -> Diffuser:
    """One diffuser, of the data layers of both U-Nets and what attends in them. No tensor is copied.

    Args:
        image_unet: diffusers' UNet2DConditionModel, or a view of a diffuser or a diffuser, which is returned as it is.
        text_unet: diffusers' UNetFlatConditionModel, or None if `image_unet` holds the layers of all contexts, as it
            does where diffusers' text-to-image or dual-guided pipeline has dropped unused weights.
        contexts: modalities of the contexts.

    Raises:
        CheckpointError: if they are U-Nets of another kind.
        ValueError: if a U-Net is missing, or lacks what attends to a context.
    """
    diffuser = image_unet.brought() if isinstance(image_unet, UNet2DConditionModel) else image_unet
    if isinstance(diffuser, Diffuser):
        if text_unet is not None and not isinstance(text_unet, UNetFlatConditionModel):
            raise ValueError("This text_unet goes with an image_unet of diffusers: pass both, or neither.")
        if lacking := [context for context in contexts if context not in diffuser.context_layers]:
            raise ValueError(f"image_unet lacks what attends to {' and '.join(lacking)}: take another pipeline's.")
        return diffuser
    config: Any = image_unet.config
    dual = config.get("dual_cross_attention")
    if text_unet is None and not dual and len(contexts) > 1:
        raise ValueError("text_unet is missing: pass it, for its layers attend to texts.")
    channels: int = config["in_channels"]
    data_layers: dict[str, DataLayersFactory] = {"image": lambda plan: ConvolutionalLayers(plan, channels)}
    if text_unet is not None:
        stream = text_sizes(cast("Mapping[str, Any]", text_unet.config))  # which every model of diffusers has
        data_layers["text"] = lambda plan: FullyConnectedLayers(plan, **stream)
    width: int = config["cross_attention_dim"]
    sizes = unet_sizes(config, "image_unet")
    diffuser = empty(lambda: Diffuser(sizes, data_layers, dict.fromkeys(contexts, width)))
    held = ("image", "text") if dual else contexts if text_unet is None else ("image",)
    tensors = unet_tensors(image_unet.state_dict(), "image", held, diffuser, "image_unet")
    if text_unet is not None:
        tensors = unet_tensors(text_unet.state_dict(), "text", ("text",), diffuser, "text_unet") | tensors
    diffuser.load_state_dict(tensors, assign=True)
    return diffuser.eval()


def sample_size(image_unet: nn.Module, vae: Any) -> int:
    """Height and width of the latents that the U-Net was trained with, as far as it or the autoencoder tells."""
    config: Any = image_unet.config
    return config.get("sample_size") or vae.config["sample_size"] // pixels_per_position(vae.config)


def opened(source: str | Path, flows: Iterable[Flow], dtype: torch.dtype | None) -> dict[str, Any]:
    """The components of any model, under diffusers' names; `image_unet` is a diffuser that holds those of both U-Nets.

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
