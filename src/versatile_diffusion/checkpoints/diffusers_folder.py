"""Versatile Diffusion in diffusers' layout, such as the hub's shi-labs/versatile-diffusion.

    image_unet/  text_unet/                       data and context layers of images and of texts
    vae/  image_encoder/  text_encoder/           KL autoencoder, and the two halves of CLIP
    tokenizer/  scheduler/
    pretrained_pth/optimus-vae.pth                for texts; diffusers never had it

Whatever library `model_index.json` names for a part (text_unet goes by two), tensors and configurations are read here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from versatile_diffusion.checkpoints import diffusers_parts, parts, sizes
from versatile_diffusion.checkpoints.components import DIFFUSER, Checkpoint, Wanted, empty, empty_diffuser
from versatile_diffusion.checkpoints.errors import CheckpointError
from versatile_diffusion.checkpoints.folder import read_scheduler
from versatile_diffusion.checkpoints.tensors import LazyTensor, Tensors, open_tensors
from versatile_diffusion.checkpoints.vocabularies import read_tokenizers
from versatile_diffusion.diffuser import DiffuserConfig
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import ImageModality, Modality, TextModality

OPTIMUS = ("pretrained_pth/optimus-vae.pth", "optimus-vae.pth", "pretrained/optimus-vae.pth")
_UNETS = {"image": "image_unet", "text": "text_unet"}


def recognises(folder: Path) -> bool:
    """Whether this is such a folder."""
    return any((folder / unet).is_dir() for unet in _UNETS.values())


def read(folder: Path, flows: Sequence[Flow] | None) -> Checkpoint:
    """Reads such a folder, but leaves the tensors on disk.

    Without `flows`, texts are outputs if Optimus is there.

    Raises:
        CheckpointError: if the folder is damaged, or lacks something that the flows need.
    """
    optimus = next((folder / name for name in OPTIMUS if (folder / name).is_file()), None)
    outputs = ("image",) if flows is None and optimus is None else ("image", "text")
    wanted = Wanted.of(flows, outputs, ("image", "text"), folder)
    modalities: dict[str, Modality] = {}
    tensors: dict[str, Tensors] = {}
    if "image" in wanted.modalities:
        modalities["image"], tensors["image"] = _image(folder, wanted)
    if "text" in wanted.modalities:
        modalities["text"], tensors["text"] = _text(folder, wanted, optimus)
    diffuser = empty_diffuser(_config(folder, wanted), modalities, wanted)
    tensors[DIFFUSER] = {
        key: tensor
        for name in reversed(wanted.modalities)  # both U-Nets hold the global layers; the image U-Net's are taken
        for key, tensor in diffusers_parts.unet(folder / _UNETS[name], name, name, diffuser).items()
    }
    return Checkpoint(diffuser, modalities, read_scheduler(folder / "scheduler"), tensors)


def _config(folder: Path, wanted: Wanted) -> DiffuserConfig:
    """The sizes that both U-Nets share."""
    configs = [diffusers_parts.diffuser_config(folder / _UNETS[name]) for name in wanted.modalities]
    if any(config != configs[0] for config in configs):
        raise CheckpointError(f"image_unet and text_unet in {folder} differ in their blocks: {configs}.")
    return configs[0]


def _image(folder: Path, wanted: Wanted) -> tuple[ImageModality, Mapping[str, LazyTensor]]:
    makes, given = "image" in wanted.outputs, "image" in wanted.contexts
    vae, encoder = folder / "vae", folder / "image_encoder"
    modality = empty(
        lambda: ImageModality(
            diffusers_parts.autoencoder_config(vae, folder / _UNETS["image"]) if makes else None,
            diffusers_parts.clip_config(encoder) if given else None,
            diffusers_parts.scaling_factor(vae) if makes else diffusers_parts.SCALING_FACTOR,
        )
    )
    tensors = diffusers_parts.autoencoder(vae, modality) if makes else {}
    return modality, tensors | (diffusers_parts.clip(encoder, modality) if given else {})


def _text(folder: Path, wanted: Wanted, optimus: Path | None) -> tuple[TextModality, Mapping[str, LazyTensor]]:
    makes, given = "text" in wanted.outputs, "text" in wanted.contexts
    if makes and optimus is None:
        raise CheckpointError(
            f"{folder} has no Optimus, which texts are made with. Download pretrained_pth/optimus-vae.pth of "
            f"shi-labs/versatile-diffusion to {folder / OPTIMUS[0]}, or load flows that make images only."
        )
    stored = open_tensors(optimus) if makes and optimus else {}
    latent_dim, positions = diffusers_parts.text_stream(folder / "text_unet")
    modality = empty(
        lambda: TextModality(
            sizes.optimus(stored, optimus) if makes else None,
            diffusers_parts.clip_config(folder / "text_encoder") if given else None,
            positions=positions,
            latent_dim=latent_dim,
        )
    )
    modality.tokenizers = read_tokenizers(folder, wanted)
    tensors = parts.optimus(modality, stored, optimus)
    return modality, tensors | (diffusers_parts.clip(folder / "text_encoder", modality) if given else {})
