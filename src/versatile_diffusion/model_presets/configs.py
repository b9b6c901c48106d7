"""Arguments of the parts of models, from the few numbers in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from versatile_diffusion.modalities.text_encoders import LENGTH, T5

Config = dict[str, Any]  # of modules of other libraries, whose options are theirs
"""Arguments of a module, as JSON holds them."""


def kl_autoencoder(
    channels: Sequence[int],
    layers: int,
    size: int,
    latent_channels: int = 4,
    groups: int = 32,
    patch_size: int = 1,
) -> Config:
    """Returns the arguments of AutoencoderKL: images of `size`, halved at every level but the first.

    With a `patch_size` above 1 they are those of `PatchAutoencoderKL`.
    """
    levels = len(channels)
    patches = {"patch_size": patch_size} if patch_size > 1 else {}
    return {
        **patches,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": list(channels),
        "layers_per_block": layers,
        "latent_channels": latent_channels,
        "norm_num_groups": groups,
        "sample_size": size,
    }


def clip_vision(width: int, layers: int, size: int, patch: int, projection: int, heads: int | None = None) -> Config:
    """Returns a CLIPVisionConfig. Heads are 64 wide unless told otherwise, as in every official CLIP."""
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads or width // 64,
        "image_size": size,
        "patch_size": patch,
        "projection_dim": projection,
    }


def clip_text(
    width: int, layers: int, tokens: int, positions: int, projection: int, heads: int | None = None
) -> Config:
    """Returns a CLIPTextConfig. The last token of the vocabulary ends a text, the one before begins it."""
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads or width // 64,
        "vocab_size": tokens,
        "max_position_embeddings": positions,
        "projection_dim": projection,
        "bos_token_id": tokens - 2,
        "eos_token_id": tokens - 1,
        "pad_token_id": tokens - 1,
    }


def t5_text(width: int, layers: int, tokens: int, heads: int | None = None, length: int = LENGTH) -> Config:
    """Returns a T5Config of version 1.1, as Imagen has it: texts of `length` tokens, without a limit of its own."""
    heads = heads or width // 64
    return {
        "model_type": T5,
        "d_model": width,
        "d_kv": width // heads,
        "d_ff": 4 * width,
        "num_layers": layers,
        "num_heads": heads,
        "vocab_size": tokens,
        "feed_forward_proj": "gated-gelu",
        "context_length": length,
    }


def optimus(
    width: int,
    layers: int,
    pieces: int,
    tokens: int,
    latent: int,
    positions: tuple[int, int],
    heads: int | None = None,
    spread: float = 0.02,
) -> Config:
    """Returns the arguments of `Optimus`: BERT for `pieces`, GPT-2 for `tokens`, whose last one ends a text.

    `spread` is the standard deviation of random weights: narrow models learn nothing from each other's layers unless it
    is near 1 / √width.
    """
    heads = heads or width // 64
    bert = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": pieces,
        "initializer_range": spread,
        "max_position_embeddings": positions[0],
    }
    gpt2 = {
        "n_embd": width,
        "n_layer": layers,
        "n_head": heads,
        "vocab_size": tokens,
        "initializer_range": spread,
        "n_positions": positions[1],
        "pad_token_id": tokens - 3,
        "bos_token_id": tokens - 2,
        "eos_token_id": tokens - 1,
    }
    return {"bert": bert, "gpt2": gpt2, "latent_dim": latent}
