"""Stable Diffusion v1 as one file, .safetensors or .ckpt: one flow, text to image (the paper's baseline, section 4).

model.diffusion_model.*           the U-Net, in the names of the latent diffusion code
first_stage_model.*               the KL autoencoder
cond_stage_model.transformer.*    the text model of CLIP
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from versatile_diffusion.checkpoints import diffuser_layouts, parts, sizes
from versatile_diffusion.checkpoints.components import (
    DIFFUSER,
    Checkpoint,
    Wanted,
    empty,
    empty_diffuser,
    official_scheduler,
)
from versatile_diffusion.checkpoints.errors import CheckpointError
from versatile_diffusion.checkpoints.keys import check, to_ours
from versatile_diffusion.checkpoints.kinds import require_text_to_image
from versatile_diffusion.checkpoints.official import LEFT_OUT
from versatile_diffusion.checkpoints.tensors import Tensors
from versatile_diffusion.checkpoints.vocabularies import read_tokenizers
from versatile_diffusion.checkpoints.weight_files import ANY_FILES, FileOptions
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import ImageModality, TextModality

_UNET, _AUTOENCODER, _TEXT_ENCODER = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
_FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"
_TEXT_MODEL = "text_model."
_ALSO_LEFT_OUT = re.compile(r"cond_stage_model\.logit_scale|model_ema\..*|denoiser\..*")


def recognises(keys: Collection[str]) -> bool:
    """Tells whether these are the keys of such a file, or of one of its kin."""
    return _FIRST_LAYER in keys


def read(file: Path, stored: Tensors, flows: Sequence[Flow] | None, options: FileOptions = ANY_FILES) -> Checkpoint:
    """Reads such a file, but leaves the tensors on disk.

    Args:
        file: where tokenizers are looked for, too: beside it.
        stored: its tensors.
        flows: read only what these need.
        options: where tokenizers may come from.

    Raises:
        CheckpointError: if the file is damaged, of another version, holds only some of the parts, or lacks a flow.
    """
    require_text_to_image(stored, stored[_FIRST_LAYER].shape, file)
    known = (_UNET, _AUTOENCODER, _TEXT_ENCODER)
    left_out = (LEFT_OUT, _ALSO_LEFT_OUT)
    check([], [key for key in stored if not key.startswith(known) and not _any(left_out, key)], file)
    wanted = Wanted.of(flows, ["image"], ["text"], file)
    kl, clip = _part(stored, _AUTOENCODER, "autoencoder", file), _text_model(stored, file)
    image = empty(lambda: ImageModality(sizes.kl_autoencoder(kl, file)))
    text = empty(lambda: TextModality(context_encoder=sizes.clip_text(clip, file), projected=False))
    text.tokenizers = read_tokenizers(file.parent, wanted, options)
    held = {key: tensor for key, tensor in stored.items() if key.startswith(_UNET)}
    config = sizes.diffuser(held, diffuser_layouts.stable_diffusion, file)
    diffuser = empty_diffuser(config, {"image": image, "text": text}, wanted)
    table = diffuser_layouts.stable_diffusion(diffuser.plan)
    tensors = {
        DIFFUSER: to_ours(table, held, wanted=diffuser.state_dict(), where=file),
        "image": parts.kl_autoencoder(image, kl, file),
        "text": parts.clip(text, clip, file),
    }
    return Checkpoint(diffuser, {"image": image, "text": text}, official_scheduler(), tensors)


def _text_model(stored: Tensors, file: Path) -> Tensors:
    """The text model, which some tools store without its prefix."""
    held = _part(stored, _TEXT_ENCODER, "text encoder", file)
    return {key if key.startswith(_TEXT_MODEL) else _TEXT_MODEL + key: tensor for key, tensor in held.items()}


def _part(stored: Tensors, prefix: str, what: str, file: Path) -> Tensors:
    held = parts.split(stored, prefix)
    if not held:
        raise CheckpointError(
            f"{file} holds a U-Net, but no {what} ({prefix}*). Take a file with all parts of the model in it, or a "
            "folder in diffusers' layout."
        )
    return held


def _any(patterns: Sequence[re.Pattern[str]], key: str) -> bool:
    return any(pattern.fullmatch(key) for pattern in patterns)
