"""A folder of official .pth files.

vd-four-flow-v1-0.pth    (or -fp16, or -deprecated with the older layout) the diffuser and both CLIPs
kl-f8.pth                the KL autoencoder, where the first file does not hold it
optimus-vae.pth          Optimus, likewise; only texts need it
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

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
from versatile_diffusion.checkpoints.keys import KeyTable, check, to_ours
from versatile_diffusion.checkpoints.tensors import Tensors, open_tensors
from versatile_diffusion.checkpoints.vocabularies import read_tokenizers
from versatile_diffusion.checkpoints.weight_files import ANY_FILES, FileOptions
from versatile_diffusion.diffuser import DiffuserConfig, Plan
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import ImageModality, Modality, TextModality

FILES = (
    "vd-four-flow-v1-0.pth",
    "vd-four-flow-v1-0-fp16.pth",
    "vd-four-flow-v1-0-deprecated.pth",
    "vd-four-flow-v1-0-fp16-deprecated.pth",
    "vd-official.pth",
    "vd1.0-four-flow.pth",
)
KL, OPTIMUS = "kl-f8.pth", "optimus-vae.pth"


class _Naming(NamedTuple):
    """Where one release of the official code keeps the parts of a model."""

    diffuser: str
    layout: Callable[[Plan], KeyTable]
    kl: str
    optimus: str
    clip_image: str
    clip_text: str

    def parts(self) -> tuple[str, ...]:
        return (self.diffuser, self.kl, self.optimus, self.clip_image, self.clip_text)


_CURRENT = _Naming(
    "diffuser.", diffuser_layouts.official, "vae.image.", "vae.text.", "ctx.image.model.", "ctx.text.model."
)
_LEGACY = _Naming("model.", diffuser_layouts.legacy, "autokl.", "optimus.", "clip.model.", "clip.model.")

# The noise schedule, which the scheduler computes, and what training leaves behind.
LEFT_OUT = re.compile(
    r"betas|logvar|lvlb_weights|scale_factor|(sqrt_)?(one_minus_)?alphas_cumprod(_prev)?|log_one_minus_alphas_cumprod"
    r"|sqrt_recip(m1)?_alphas_cumprod|posterior_(variance|log_variance_clipped|mean_coef[12])|model_ema\..*"
)


def recognises(folder: Path) -> bool:
    """Tells whether this is such a folder."""
    return any((folder / name).is_file() for name in FILES)


def holds_diffuser(keys: Collection[str]) -> bool:
    """Tells whether these are the keys of a file with the diffuser in it."""
    return any(key.startswith((_CURRENT.diffuser, f"{_LEGACY.diffuser}diffusion_model.unet_")) for key in keys)


def first_of(names: Iterable[str], variant: str | None = None) -> str | None:
    """Returns the first of `FILES` among some names; one of a variant (such as "fp16") goes before the others."""
    given = set(names)
    present = [name for name in FILES if name in given]
    return next((name for name in present if variant and f"-{variant}" in name), next(iter(present), None))


def read(
    folder: Path, flows: Sequence[Flow] | None, file: Path | None = None, options: FileOptions = ANY_FILES
) -> Checkpoint:
    """Reads such a folder, but leaves the tensors on disk.

    Without `file`, it takes one of `FILES`; see `first_of`. Without `flows`, texts are outputs if Optimus is there.

    Raises:
        CheckpointError: if a file is damaged, of another model, or missing.
    """
    main = file or _main(folder, options)
    stored = open_tensors(main)
    naming = _LEGACY if any(key.startswith(_LEGACY.diffuser) for key in stored) else _CURRENT
    check([], [key for key in stored if not key.startswith(naming.parts()) and not LEFT_OUT.fullmatch(key)], main)
    has_optimus = (folder / OPTIMUS).is_file() or any(key.startswith(naming.optimus) for key in stored)
    outputs = ("image",) if flows is None and not has_optimus else ("image", "text")
    wanted = Wanted.of(flows, outputs, ("image", "text"), folder)

    held = {key: tensor for key, tensor in stored.items() if key.startswith(naming.diffuser)}
    config = sizes.diffuser(held, naming.layout, main)
    modalities: dict[str, Modality] = {}
    tensors: dict[str, Tensors] = {}
    if "image" in wanted.modalities:
        modalities["image"], tensors["image"] = _image(folder, stored, naming, wanted, main)
    if "text" in wanted.modalities:
        text, tensors["text"] = _text(folder, stored, naming, wanted, main, config)
        text.tokenizers = read_tokenizers(folder, wanted, options)
        modalities["text"] = text
    diffuser = empty_diffuser(config, modalities, wanted)
    tensors[DIFFUSER] = to_ours(naming.layout(diffuser.plan), held, wanted=diffuser.state_dict(), where=main)
    return Checkpoint(diffuser, modalities, official_scheduler(), tensors)


def _main(folder: Path, options: FileOptions) -> Path:
    name = first_of((path.name for path in folder.iterdir()), options.variant)
    if name is None or options.use_safetensors:
        raise CheckpointError(f"{folder} holds no safetensors: leave use_safetensors out to read its .pth files.")
    return folder / name


def _image(folder: Path, stored: Tensors, naming: _Naming, wanted: Wanted, main: Path) -> tuple[ImageModality, Tensors]:
    kl = _part(stored, naming.kl, folder / KL, main) if "image" in wanted.outputs else None
    clip = _part(stored, naming.clip_image, None, main) if "image" in wanted.contexts else None
    modality = empty(lambda: ImageModality(kl and sizes.kl_autoencoder(*kl), clip and sizes.clip_vision(*clip)))
    autoencoder = parts.kl_autoencoder(modality, *kl) if kl else {}
    return modality, autoencoder | (parts.clip(modality, *clip) if clip else {})


def _text(
    folder: Path, stored: Tensors, naming: _Naming, wanted: Wanted, main: Path, config: DiffuserConfig
) -> tuple[TextModality, Tensors]:
    optimus = _part(stored, naming.optimus, folder / OPTIMUS, main) if "text" in wanted.outputs else None
    clip = _part(stored, naming.clip_text, None, main) if "text" in wanted.contexts else None
    latent_dim, positions = sizes.text_stream(stored, config)
    modality = empty(
        lambda: TextModality(
            optimus and sizes.optimus(*optimus), clip and sizes.clip_text(*clip), positions, latent_dim
        )
    )
    autoencoder = parts.optimus(modality, *optimus) if optimus else {}
    return modality, autoencoder | (parts.clip(modality, *clip) if clip else {})


def _part(stored: Tensors, prefix: str, file: Path | None, main: Path) -> tuple[Tensors, Path]:
    """A part of the model and where it is: in the main file, or else in a file of its own."""
    held = parts.split(stored, prefix)
    if held:
        return held, main
    if file is None or not file.is_file():
        raise CheckpointError(
            f"{main} has no tensors {prefix}*" + (f", and {file} does not exist" if file else "") + ". Download "
            f"pretrained_pth/{file.name if file else FILES[0]} of shi-labs/versatile-diffusion on the hub to "
            f"{main.parent}, or load flows that do not need it."
        )
    return open_tensors(file), file
