"""Where the tensors of autoencoders and context encoders lie in other layouts.

These are diffusers' and transformers' own modules, so most names are the same on both sides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from versatile_diffusion.checkpoints.keys import Theirs

_CLIP_LEFT_OUT = (r".*embeddings\.position_ids", r"logit_scale")
CLIP_LEFT_OUT = {
    "image": (*_CLIP_LEFT_OUT, r"text_(model|projection)\..*"),
    "text": (*_CLIP_LEFT_OUT, r"vision_model\..*", r"(visual|text)_projection\..*"),
}
"""Buffers of older transformers, the temperature of CLIP's loss, the half of CLIP for the other modality, and the
projection of texts where it is not used."""

KL_LEFT_OUT = (r"loss\..*", r"model_ema\..*")
"""The discriminator and the averaged weights that training leaves behind."""

_T5_SHARED = "shared.weight"
T5_LEFT_OUT = (r"decoder\..*", r"lm_head\..*", r"(shared|encoder\.embed_tokens)\.weight")
"""The half of T5 that writes, and the second name of its embeddings."""

OPTIMUS_LEFT_OUT = (
    r"encoder\.embeddings\.position_ids",
    r"decoder\.transformer\.h\.\d+\.attn\.(masked_)?bias",
    r"decoder\.lm_head\.weight",
)
"""Causal masks and other buffers, and the output layer, which is the token embedding."""

_OPTIMUS = {
    "to_posterior.": "encoder.linear.",
    "to_memory.": "decoder.transformer.linear.",
    "to_embedding.": "decoder.transformer.linear_emb.",
    "decoder.": "decoder.transformer.",
}
_TEXT_MODEL = "text_model."
_OFFICIAL_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def by_prefix(ours: Iterable[str], prefixes: Mapping[str, str]) -> dict[str, Theirs]:
    """Returns the table for keys of ours that differ in their beginning only: {ours: theirs}, the first that fits."""
    table: dict[str, Theirs] = {}
    for key in ours:
        prefix = next((prefix for prefix in prefixes if key.startswith(prefix)), "")
        table[key] = Theirs(prefixes.get(prefix, "") + key.removeprefix(prefix))
    return table


def clip(ours: Iterable[str], theirs: Collection[str]) -> dict[str, Theirs]:
    """Returns a CLIP encoder of transformers, whose versions disagree on whether a text encoder has a prefix."""
    table: dict[str, Theirs] = {}
    for key in ours:
        spellings = (key, _TEXT_MODEL + key, key.removeprefix(_TEXT_MODEL))
        table[key] = Theirs(next((spelling for spelling in spellings if spelling in theirs), key))
    return table


def t5(ours: Iterable[str], theirs: Collection[str]) -> dict[str, Theirs]:
    """Returns T5's encoder in a whole T5 or alone; its embeddings go by either of two names."""
    table = {key: Theirs(f"encoder.{key}") for key in ours}
    if _T5_SHARED in theirs:
        table["embed_tokens.weight"] = Theirs(_T5_SHARED)
    return table


def optimus(ours: Iterable[str]) -> dict[str, Theirs]:
    """optimus-vae.pth, for the keys of our Optimus."""
    return by_prefix(ours, _OPTIMUS)


def optimus_derived(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns what optimus-vae.pth holds besides: the output layer and the causal masks."""
    embedding = theirs["decoder.transformer.wte.weight"]
    positions = len(theirs["decoder.transformer.wpe.weight"])
    layers = sum(key.endswith(".attn.c_attn.weight") for key in theirs)
    mask = torch.ones(1, 1, positions, positions, device=embedding.device).tril()
    masks = {f"decoder.transformer.h.{layer}.attn.bias": mask for layer in range(layers)}
    return {"decoder.lm_head.weight": embedding, **masks}


def kl_autoencoder(channels: Sequence[int], layers: int) -> dict[str, Theirs]:
    """kl-f8.pth, for diffusers' AutoencoderKL.

    Args:
        channels: of each level, from the image inwards.
        layers: residual blocks of each level on the way in; one more on the way out.
    """
    table: dict[str, Theirs] = {}
    for half in (_kl_encoder(channels, layers), _kl_decoder(channels, layers)):
        for ours, theirs, pointwise in half:
            table[f"{ours}.weight"] = Theirs(f"{theirs}.weight", pointwise)
            table[f"{ours}.bias"] = Theirs(f"{theirs}.bias")
    return table


def kl_autoencoder_old(ours: Iterable[str]) -> dict[str, Theirs]:
    """AutoencoderKL as diffusers saved it until 0.11, with other names in the attention blocks."""
    return {key: Theirs(_replace(key, _OLD_ATTENTION) if ".attentions." in key else key) for key in ours}


Layer = tuple[str, str, bool]


def _kl_encoder(channels: Sequence[int], layers: int) -> Iterator[Layer]:
    yield "encoder.conv_in", "encoder.conv_in", False
    width = channels[0]
    for level, level_channels in enumerate(channels):
        for layer in range(layers):
            ours, theirs = f"encoder.down_blocks.{level}.resnets.{layer}", f"encoder.down.{level}.block.{layer}"
            yield from _kl_residual(ours, theirs, shortcut=width != level_channels)
            width = level_channels
        if level != len(channels) - 1:
            yield f"encoder.down_blocks.{level}.downsamplers.0.conv", f"encoder.down.{level}.downsample.conv", False
    yield from _kl_middle_and_end("encoder")
    yield "quant_conv", "quant_conv", False


def _kl_decoder(channels: Sequence[int], layers: int) -> Iterator[Layer]:
    yield "post_quant_conv", "post_quant_conv", False
    yield "decoder.conv_in", "decoder.conv_in", False
    width = channels[-1]
    for block, level in enumerate(reversed(range(len(channels)))):
        for layer in range(layers + 1):
            ours, theirs = f"decoder.up_blocks.{block}.resnets.{layer}", f"decoder.up.{level}.block.{layer}"
            yield from _kl_residual(ours, theirs, shortcut=width != channels[level])
            width = channels[level]
        if level != 0:
            yield f"decoder.up_blocks.{block}.upsamplers.0.conv", f"decoder.up.{level}.upsample.conv", False
    yield from _kl_middle_and_end("decoder")


def _kl_residual(ours: str, theirs: str, shortcut: bool) -> Iterator[Layer]:
    for name in ("norm1", "conv1", "norm2", "conv2"):
        yield f"{ours}.{name}", f"{theirs}.{name}", False
    if shortcut:
        yield f"{ours}.conv_shortcut", f"{theirs}.nin_shortcut", False


def _kl_middle_and_end(half: str) -> Iterator[Layer]:
    for i in (0, 1):
        yield from _kl_residual(f"{half}.mid_block.resnets.{i}", f"{half}.mid.block_{i + 1}", shortcut=False)
    for ours, theirs in _OFFICIAL_ATTENTION.items():
        yield f"{half}.mid_block.attentions.0.{ours}", f"{half}.mid.attn_1.{theirs}", ours != "group_norm"
    yield f"{half}.conv_norm_out", f"{half}.norm_out", False
    yield f"{half}.conv_out", f"{half}.conv_out", False


def _replace(key: str, names: Mapping[str, str]) -> str:
    for ours, theirs in names.items():
        key = key.replace(f".{ours}.", f".{theirs}.")
    return key
