"""Which layout a folder or a file of a model is in, and so what reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from versatile_diffusion.checkpoints import diffusers_folder, folder, official, stable_diffusion, stable_diffusion_file
from versatile_diffusion.checkpoints.components import Checkpoint
from versatile_diffusion.checkpoints.errors import CheckpointError, reading
from versatile_diffusion.checkpoints.kinds import unknown_tensors, unlike_weights
from versatile_diffusion.checkpoints.tensors import open_tensors
from versatile_diffusion.checkpoints.weight_files import ANY_FILES, FileOptions, WeightName
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.base import Modality

Reader = Callable[[Sequence[Flow] | None], Checkpoint]
"""Reads the model of some flows, or all of it, but leaves the tensors on disk."""

_MAGIC = 8  # bytes that tell what wrote a file
_OFFICIAL_FOLDERS = ("", "pretrained_pth", "pretrained")
_DIFFUSERS_PARTS = (
    *("unet", "image_unet", "text_unet", "vae", "text_encoder", "image_encoder", "tokenizer", "tokenizers"),
    *("scheduler", "feature_extractor", "image_feature_extractor", "safety_checker", "model_index.json"),
    *("pretrained_pth", "pretrained", official.OPTIMUS),
)


def folder_reader(
    place: Path, modalities: Sequence[type[Modality]] = (), options: FileOptions = ANY_FILES
) -> Reader | None:
    """Returns what reads a folder; None if it holds no model that is known."""
    if folder.is_ours(place):
        return partial(folder.read, place, modalities=modalities, options=options)
    for layout in (diffusers_folder, stable_diffusion):
        if layout.recognises(place):
            return partial(layout.read, place, options=options)
    for name in _OFFICIAL_FOLDERS:
        if official.recognises(place / name):
            return partial(official.read, place / name, options=options)
    return None


def file_reader(file: Path, modalities: Sequence[type[Modality]] = (), options: FileOptions = ANY_FILES) -> Reader:
    """Returns what reads a file: a whole model, or any one of a folder, which stands for the folder.

    Raises:
        CheckpointError: if it is neither; the message says what it is.
    """
    if file.name not in official.FILES:
        for place in file.absolute().parents[:3]:
            if _belongs(file, place) and (read := folder_reader(place, modalities, _of_variant(file, options))):
                return read
    with reading(file):
        with file.open("rb") as opened:
            first = opened.read(_MAGIC)
        what = "is empty. Download it again." if not first else unlike_weights(file.name, first)
    if what is not None:
        raise CheckpointError(f"{file} {what}")
    stored = open_tensors(file)
    if stable_diffusion_file.recognises(stored):
        return partial(stable_diffusion_file.read, file, stored, options=options)
    if official.holds_diffuser(stored) or file.name in official.FILES:
        return partial(official.read, file.parent, file=file, options=options)
    raise unknown_tensors(stored, file)


def _belongs(file: Path, place: Path) -> bool:
    """Whether a file is a part of the model that may lie in a folder, and no other file that lies beside it."""
    first = file.absolute().relative_to(place).parts[0]
    return first in (*folder.saved_parts(place), *_DIFFUSERS_PARTS, official.KL)


def _of_variant(file: Path, options: FileOptions) -> FileOptions:
    """The options, with the variant of the file that was named."""
    name = WeightName.of(file.name)
    return replace(options, variant=name.variant) if name and name.variant and options.variant is None else options
