"""Sizes of official .pth files, which come without configurations: read off the shapes of their tensors.

What shapes do not tell is as in the official models: 8 heads in the diffuser, heads 64 wide elsewhere (at least 4 of
them), and the tokens that begin and end a text at the end of the vocabulary.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import product, takewhile
from typing import Any

from versatile_diffusion.checkpoints.errors import CheckpointError
from versatile_diffusion.checkpoints.keys import KeyTable
from versatile_diffusion.checkpoints.tensors import Tensors
from versatile_diffusion.diffuser import DiffuserConfig, Plan

Config = dict[str, Any]

_IMAGE_SIDE = 512  # height and width in pixels of the official model's images
_STAGES = ("input_blocks", "middle_block", "output_blocks", "data_blocks")
_BLOCK = re.compile(
    rf"(?:.*image|model\.diffusion_model)\.({'|'.join(_STAGES)})\.([\d.]+)\.(in_layers\.2|op|conv)\.weight"
)


def diffuser(tensors: Tensors, layout: Callable[[Plan], KeyTable], where: object) -> DiffuserConfig:
    """Returns the sizes of a diffuser in an official layout.

    The current layout does not tell which levels have context blocks, so every order is tried, the official first.

    Raises:
        CheckpointError: if there is no diffuser.
    """
    try:
        model_channels = next(tensor.shape[1] for key, tensor in tensors.items() if key.endswith("time_embed.0.weight"))
        levels = _levels(tensors)
    except (StopIteration, IndexError) as error:
        raise CheckpointError(f"{where} holds no whole diffuser. Download it again.") from error
    mults, layers = tuple(width // model_channels for width, _ in levels), tuple(n for _, n in levels)
    official = (*(True for _ in levels[1:]), False)
    choices = [official, *product((True, False), repeat=len(levels))]
    configs = [DiffuserConfig(model_channels, mults, layers, with_context) for with_context in choices]
    fitting = (config for config in configs if _fits(Plan.of(config), layout, tensors))
    return next(fitting, configs[0])  # where nothing fits, what is missing in the official order will be named


def _fits(plan: Plan, layout: Callable[[Plan], KeyTable], tensors: Tensors) -> bool:
    """Whether the plan's tensors are there, with context blocks as many and as wide as it says."""
    table = layout(plan)
    known = {entry.key for entry in table.values()}
    found = (
        (entry.key, re.fullmatch(r"context_layers\.\w+\.(\d+)\.norm\.weight", ours)) for ours, entry in table.items()
    )
    norms = [(key, plan.context[int(match[1])].channels) for key, match in found if match]
    return (
        known <= tensors.keys()
        and not any("transformer_blocks" in key for key in tensors.keys() - known)
        and all(tensors[key].shape == (channels,) for key, channels in norms)
    )


def _levels(tensors: Tensors) -> list[tuple[int, int]]:
    """Channels and residual blocks of each level, from the blocks of the image stream in their order."""
    matches = [match for match in map(_BLOCK.fullmatch, tensors) if match]
    order = sorted(matches, key=lambda m: (_STAGES.index(m[1]), [int(number) for number in m[2].split(".")]))
    blocks = [(match[3], tensors[match[0]].shape[0]) for match in order]
    levels: list[tuple[int, int]] = []
    while any(kind == "op" for kind, _ in blocks):
        residual = list(takewhile(lambda block: block[0] != "op", blocks))
        levels.append((residual[0][1], len(residual)))
        blocks = blocks[len(residual) + 1 :]
    last = list(takewhile(lambda block: block[0] != "conv", blocks))
    return [*levels, (last[0][1], (len(last) - 3) // 2)]  # n on the way down, 2 in the middle, n + 1 on the way up


def text_stream(tensors: Tensors, config: DiffuserConfig) -> tuple[int, int]:
    """Returns the size of the text latent, and positions of its features."""
    key = next(key for key in tensors if re.fullmatch(r".*text\.(input|data)_blocks\.0\.0\.weight", key))
    features, latent_dim = tensors[key].shape
    return latent_dim, features // config.model_channels


def kl_autoencoder(tensors: Tensors, where: object) -> Config:
    """Returns the arguments of AutoencoderKL, for kl-f8.pth."""
    shape = _shapes(tensors, where)
    levels = _count(tensors, r"encoder\.down\.(\d+)\.block\.0\.conv1\.weight")
    return {
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": [shape(f"encoder.down.{level}.block.0.conv1.weight")[0] for level in range(levels)],
        "layers_per_block": _count(tensors, r"encoder\.down\.0\.block\.(\d+)\.conv1\.weight"),
        "latent_channels": shape("decoder.conv_in.weight")[1],
        "sample_size": _IMAGE_SIDE,
    }


def optimus(tensors: Tensors, where: object) -> Config:
    """Returns the arguments of `Optimus`, for optimus-vae.pth."""
    shape = _shapes(tensors, where)
    pieces, bert_width = shape("encoder.embeddings.word_embeddings.weight")
    tokens, gpt2_width = shape("decoder.transformer.wte.weight")
    bert = {
        "hidden_size": bert_width,
        "intermediate_size": shape("encoder.encoder.layer.0.intermediate.dense.weight")[0],
        "num_hidden_layers": _count(tensors, r"encoder\.encoder\.layer\.(\d+)\.output\.dense\.weight"),
        "num_attention_heads": _heads(bert_width),
        "vocab_size": pieces,
        "type_vocab_size": shape("encoder.embeddings.token_type_embeddings.weight")[0],
        "max_position_embeddings": shape("encoder.embeddings.position_embeddings.weight")[0],
    }
    gpt2 = {
        "n_embd": gpt2_width,
        "n_inner": shape("decoder.transformer.h.0.mlp.c_fc.weight")[1],
        "n_layer": _count(tensors, r"decoder\.transformer\.h\.(\d+)\.attn\.c_attn\.weight"),
        "n_head": _heads(gpt2_width),
        "vocab_size": tokens,
        "n_positions": shape("decoder.transformer.wpe.weight")[0],
        "pad_token_id": tokens - 3,
        "bos_token_id": tokens - 2,
        "eos_token_id": tokens - 1,
    }
    return {"bert": bert, "gpt2": gpt2, "latent_dim": shape("encoder.linear.weight")[0] // 2}


def clip_vision(tensors: Tensors, where: object) -> Config:
    """Returns a CLIPVisionConfig, for a whole CLIP."""
    shape = _shapes(tensors, where)
    width, _, patch, _ = shape("vision_model.embeddings.patch_embedding.weight")
    positions, _ = shape("vision_model.embeddings.position_embedding.weight")
    projection = shape("visual_projection.weight")[0]
    size = patch * math.isqrt(positions - 1)  # a class token comes before the patches
    return {**_clip(tensors, shape, "vision_model", width, projection), "image_size": size, "patch_size": patch}


def clip_text(tensors: Tensors, where: object) -> Config:
    """Returns a CLIPTextConfig, for a whole CLIP or its text model alone, which projects nothing."""
    shape = _shapes(tensors, where)
    tokens, width = shape("text_model.embeddings.token_embedding.weight")
    projection = tensors["text_projection.weight"].shape[0] if "text_projection.weight" in tensors else width
    return {
        **_clip(tensors, shape, "text_model", width, projection),
        "vocab_size": tokens,
        "max_position_embeddings": shape("text_model.embeddings.position_embedding.weight")[0],
        "bos_token_id": tokens - 2,
        "eos_token_id": tokens - 1,
        "pad_token_id": tokens - 1,
    }


def _clip(tensors: Tensors, shape: Callable[[str], tuple[int, ...]], model: str, width: int, projection: int) -> Config:
    return {
        "hidden_size": width,
        "intermediate_size": shape(f"{model}.encoder.layers.0.mlp.fc1.weight")[0],
        "num_hidden_layers": _count(tensors, rf"{model}\.encoder\.layers\.(\d+)\.mlp\.fc1\.weight"),
        "num_attention_heads": _heads(width),
        "projection_dim": projection,
    }


def _shapes(tensors: Tensors, where: object) -> Callable[[str], tuple[int, ...]]:
    """The shape of a tensor, or an error that says that it is missing."""

    def shape(key: str) -> tuple[int, ...]:
        if key not in tensors:
            raise CheckpointError(f"{where} has no {key}. It is damaged or of another model: download it again.")
        return tensors[key].shape

    return shape


def _count(tensors: Tensors, pattern: str) -> int:
    return sum(re.fullmatch(pattern, key) is not None for key in tensors)


def _heads(width: int) -> int:
    return max(width // 64, 4)
