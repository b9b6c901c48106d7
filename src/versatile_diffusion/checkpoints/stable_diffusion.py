"""Stable Diffusion v1 in diffusers' layout: one flow, text to image (the paper's baseline, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from versatile_diffusion.checkpoints import diffusers_parts
from versatile_diffusion.checkpoints.components import DIFFUSER, Checkpoint, Wanted, empty, empty_diffuser
from versatile_diffusion.checkpoints.folder import read_scheduler
from versatile_diffusion.checkpoints.vocabularies import read_tokenizers
from versatile_diffusion.checkpoints.weight_files import ANY_FILES, FileOptions
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import ImageModality, TextModality


def recognises(folder: Path) -> bool:
    """Tells whether this is such a folder."""
    parts = ("unet", "vae", "text_encoder")
    return all((folder / part).is_dir() for part in parts) and not (folder / "vocoder").is_dir()  # as AudioLDM has


def read(folder: Path, flows: Sequence[Flow] | None, options: FileOptions = ANY_FILES) -> Checkpoint:
    """Reads such a folder, but leaves the tensors on disk.

    Raises:
        CheckpointError: if the folder is damaged, of another version, or lacks a flow.
    """
    wanted = Wanted.of(flows, ["image"], ["text"], folder)
    config = diffusers_parts.diffuser_config(folder / "unet")
    image = empty(
        lambda: ImageModality(
            diffusers_parts.autoencoder_config(folder / "vae", folder / "unet"),
            scaling_factor=diffusers_parts.scaling_factor(folder / "vae"),
        )
    )
    text_encoder = diffusers_parts.clip_config(folder / "text_encoder")
    text = empty(lambda: TextModality(context_encoder=text_encoder, projected=False))
    text.tokenizers = read_tokenizers(folder, wanted, options)
    diffuser = empty_diffuser(config, {"image": image, "text": text}, wanted)
    tensors = {
        DIFFUSER: diffusers_parts.unet(folder / "unet", "image", ["text"], diffuser, options),
        "image": diffusers_parts.autoencoder(folder / "vae", image, options),
        "text": diffusers_parts.clip(folder / "text_encoder", text, options),
    }
    return Checkpoint(diffuser, {"image": image, "text": text}, read_scheduler(folder / "scheduler"), tensors)
