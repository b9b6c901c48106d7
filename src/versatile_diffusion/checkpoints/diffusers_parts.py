"""Parts of models that diffusers and transformers saved: a folder each, with a config.json and weights."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from versatile_diffusion.checkpoints import parts
from versatile_diffusion.checkpoints.diffuser_layouts import diffusers_unet
from versatile_diffusion.checkpoints.errors import CheckpointError
from versatile_diffusion.checkpoints.folder import read_json
from versatile_diffusion.checkpoints.keys import T, to_ours
from versatile_diffusion.checkpoints.kinds import family_of, require_channels
from versatile_diffusion.checkpoints.tensors import LazyTensor, open_all
from versatile_diffusion.checkpoints.weight_files import FileOptions, find_weights
from versatile_diffusion.diffuser import Diffuser, DiffuserConfig
from versatile_diffusion.modalities import ImageModality, TextModality

_NOT_SIZES = ("architectures", "dtype", "torch_dtype", "transformers_version", "model_type")
_POSITIONS = 4
SCALING_FACTOR = 0.18215

# Options of a U-Net that change what it computes, and the only values that we compute.
_UNET = {
    "act_fn": "silu",
    "addition_embed_type": None,
    "class_embed_type": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "norm_num_groups": 32,
    "only_cross_attention": False,
    "time_embedding_type": "positional",
}


def diffuser_config(folder: Path) -> DiffuserConfig:
    """Returns the sizes of a U-Net.

    Raises:
        CheckpointError: if it is not of the kind that Stable Diffusion v1 and Versatile Diffusion use.
    """
    return unet_sizes(read_json(folder / "config.json"), folder)


def unet_sizes(config: Mapping[str, Any], where: object) -> DiffuserConfig:
    """Returns the sizes of a U-Net from its configuration, as `diffuser_config` does; errors call it `where`."""
    require_channels(config.get("in_channels"), where)
    channels: list[int] = config["block_out_channels"]
    layers: int | list[int] = config["layers_per_block"]
    heads: int | list[int] = config.get("num_attention_heads") or config["attention_head_dim"]  # diffusers' misnomer
    other = [f"{name}={config[name]}" for name, value in _UNET.items() if config.get(name, value) != value]
    other += [f"block_out_channels={channels}"] if any(width % channels[0] for width in channels) else []
    other += [f"heads={heads}"] if isinstance(heads, list) and len(set(heads)) > 1 else []
    if other:
        raise CheckpointError(
            f"{where} is another kind of U-Net{family_of(config.get('cross_attention_dim'))} ({', '.join(other)}). "
            "Take Versatile Diffusion or Stable Diffusion v1."
        )
    return DiffuserConfig(
        model_channels=channels[0],
        channel_mult=tuple(width // channels[0] for width in channels),
        num_res_blocks=tuple(layers) if isinstance(layers, list) else (layers,) * len(channels),
        with_context=tuple(block.startswith("CrossAttn") for block in config["down_block_types"]),
        num_heads=heads[0] if isinstance(heads, list) else heads,
    )


def text_stream(folder: Path) -> dict[str, Any]:
    """Returns the arguments of `TextModality`: the size of the text latent, and the positions of its features."""
    return text_sizes(read_json(folder / "config.json"))


def text_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the size of the text latent and the positions of its features, from the configuration of a U-Net."""
    channels = config["in_channels"]
    latent_dim = channels * _POSITIONS if isinstance(channels, int) else math.prod(channels)
    return {"latent_dim": latent_dim, "positions": _POSITIONS}


def unet(
    folder: Path, output: str, contexts: Sequence[str], diffuser: Diffuser, options: FileOptions
) -> dict[str, LazyTensor]:
    """Returns what a diffuser needs of a U-Net. See `diffusers_unet` for the other arguments."""
    stored, where = _weights(folder, options)
    return unet_tensors(stored, output, contexts, diffuser, where)


def unet_tensors(
    stored: Mapping[str, T], output: str, contexts: Sequence[str], diffuser: Diffuser, where: object
) -> dict[str, T]:
    """Returns what a diffuser needs of the tensors of a U-Net; `where` is what errors call it."""
    table = diffusers_unet(diffuser.plan, output, *contexts)
    wanted = [key for key in diffuser.state_dict() if key in table]
    return to_ours(table, stored, wanted=wanted, where=where)


def autoencoder_config(folder: Path, unet: Path) -> dict[str, Any]:
    """Returns the arguments of AutoencoderKL, for images as large as those that a U-Net was trained with.

    What the autoencoder itself was trained with, which its own `sample_size` tells, may have been smaller.
    """
    known = inspect.signature(AutoencoderKL.__init__).parameters
    config = {name: value for name, value in read_json(folder / "config.json").items() if name in known}
    size = read_json(unet / "config.json").get("sample_size")
    if isinstance(size, int):
        config["sample_size"] = size * 2 ** (len(config["block_out_channels"]) - 1)
    return config


def scaling_factor(folder: Path) -> float:
    """Returns what brings its latents to about unit variance; not written down until diffusers 0.11."""
    return read_json(folder / "config.json").get("scaling_factor", SCALING_FACTOR)


def clip_config(folder: Path) -> dict[str, Any]:
    """Returns a CLIPTextConfig or CLIPVisionConfig."""
    return sizes_of(read_json(folder / "config.json"))


def sizes_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a configuration of transformers without what says who wrote it."""
    return {name: value for name, value in config.items() if name not in _NOT_SIZES and not name.startswith("_")}


def autoencoder(folder: Path, modality: ImageModality, options: FileOptions) -> dict[str, LazyTensor]:
    """Returns the KL autoencoder of a folder, for a modality that has one."""
    return parts.kl_autoencoder(modality, *_weights(folder, options))


def clip(folder: Path, modality: ImageModality | TextModality, options: FileOptions) -> dict[str, LazyTensor]:
    """Returns the CLIP encoder of a folder, for a modality that has one."""
    return parts.clip(modality, *_weights(folder, options))


def _weights(folder: Path, options: FileOptions) -> tuple[dict[str, LazyTensor], Path]:
    """The tensors of a part, and what errors call the place where they are."""
    weights = find_weights(folder, options)
    if not weights:
        raise CheckpointError(f"{folder} holds no weights ({options.kinds}). Download the whole folder again.")
    return open_all(weights), weights[0] if len(weights) == 1 else folder
