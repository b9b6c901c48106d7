"""The parts of modalities, from wherever they are stored: KL autoencoder, Optimus and CLIP under our keys."""

from __future__ import annotations

from collections.abc import Mapping

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from versatile_diffusion.checkpoints import encoder_keys
from versatile_diffusion.checkpoints.keys import KeyTable, Theirs, to_ours
from versatile_diffusion.checkpoints.tensors import LazyTensor, Tensors
from versatile_diffusion.modalities import ImageModality, TextModality

AUTOENCODER = "autoencoder."
CLIP = "context_encoder.model."


def split(tensors: Tensors, prefix: str) -> Tensors:
    """Returns the tensors under a prefix, without it."""
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def kl_autoencoder(modality: ImageModality, stored: Tensors, where: object) -> dict[str, LazyTensor]:
    """Returns the KL autoencoder, from official keys or diffusers' new or old ones."""
    return {} if modality.autoencoder is None else kl_tensors(modality.autoencoder, AUTOENCODER, stored, where)


def kl_tensors(kl: AutoencoderKL, prefix: str, stored: Tensors, where: object) -> dict[str, LazyTensor]:
    """Returns a KL autoencoder under a prefix, from official keys or diffusers' new or old ones."""
    ours, config = kl.state_dict(), kl.config
    if "encoder.mid.attn_1.q.weight" in stored:
        table: KeyTable = encoder_keys.kl_autoencoder(config["block_out_channels"], config["layers_per_block"])
    elif "encoder.mid_block.attentions.0.query.weight" in stored:
        table = encoder_keys.kl_autoencoder_old(ours)
    else:
        table = {key: Theirs(key) for key in ours}
    return under(prefix, to_ours(table, stored, left_out=encoder_keys.KL_LEFT_OUT, where=where))


def optimus(modality: TextModality, stored: Tensors, where: object) -> dict[str, LazyTensor]:
    """Optimus, from official keys."""
    if modality.autoencoder is None:
        return {}
    table = encoder_keys.optimus(modality.autoencoder.state_dict())
    return under(AUTOENCODER, to_ours(table, stored, left_out=encoder_keys.OPTIMUS_LEFT_OUT, where=where))


def clip(modality: ImageModality | TextModality, stored: Tensors, where: object) -> dict[str, LazyTensor]:
    """Returns a CLIP encoder, from one of transformers' own or from a whole CLIP, of which it takes its half."""
    if modality.context_encoder is None:
        return {}
    table = encoder_keys.clip(modality.context_encoder.model.state_dict(), stored)
    return under(CLIP, to_ours(table, stored, left_out=encoder_keys.CLIP_LEFT_OUT[modality.name], where=where))


def under(prefix: str, tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Returns tensors with a prefix before their keys."""
    return {prefix + key: tensor for key, tensor in tensors.items()}
