"""Versatile Diffusion in diffusers' layout, such as the hub's shi-labs/versatile-diffusion.

    image_unet/  text_unet/                       data and context layers of images and of texts
    vae/  image_encoder/  text_encoder/           KL autoencoder, and the two halves of CLIP
    tokenizer/  scheduler/
    pretrained_pth/optimus-vae.pth                for texts; diffusers never had it

Whatever library `model_index.json` names for a part (text_unet goes by two), tensors and configurations are read here.
Its pipelines for one flow save what they need, and move context layers between the U-Nets first: see `_held`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from versatile_diffusion.checkpoints import diffusers_parts, parts, sizes
from versatile_diffusion.checkpoints.components import DIFFUSER, Checkpoint, Wanted, empty, empty_diffuser
from versatile_diffusion.checkpoints.errors import CheckpointError
from versatile_diffusion.checkpoints.folder import INDEX, read_json, read_scheduler
from versatile_diffusion.checkpoints.tensors import LazyTensor, Tensors, open_tensors
from versatile_diffusion.checkpoints.vocabularies import read_tokenizers
from versatile_diffusion.checkpoints.weight_files import ANY_FILES, FileOptions
from versatile_diffusion.diffuser import DiffuserConfig
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import ImageModality, Modality, TextModality

OPTIMUS = ("pretrained_pth/optimus-vae.pth", "optimus-vae.pth", "pretrained/optimus-vae.pth")
_UNETS = {"image": "image_unet", "text": "text_unet"}
_TEXT_TO_IMAGE = "VersatileDiffusionTextToImagePipeline"
_ONE_FLOW = {_TEXT_TO_IMAGE: "text", "VersatileDiffusionImageVariationPipeline": "image"}
"""Pipelines of diffusers that know one context. They make images."""


def recognises(folder: Path) -> bool:
    """Tells whether this is such a folder."""
    return any((folder / unet).is_dir() for unet in _UNETS.values())


def read(folder: Path, flows: Sequence[Flow] | None, options: FileOptions = ANY_FILES) -> Checkpoint:
    """Reads such a folder, but leaves the tensors on disk.

    Without `flows`, texts are outputs if Optimus is there.

    Raises:
        CheckpointError: if the folder is damaged, or lacks something that the flows need.
    """
    optimus = next((folder / name for name in OPTIMUS if (folder / name).is_file()), None)
    only = _ONE_FLOW.get(_class_name(folder))
    outputs = ("image",) if only or (flows is None and optimus is None) else ("image", "text")
    wanted = Wanted.of(flows, outputs, (only,) if only else ("image", "text"), folder)
    modalities: dict[str, Modality] = {}
    tensors: dict[str, Tensors] = {}
    if "image" in wanted.modalities:
        modalities["image"], tensors["image"] = _image(folder, wanted, options)
    if "text" in wanted.modalities:
        modalities["text"], tensors["text"] = _text(folder, wanted, optimus, options)
    unets = _needed(_held(folder), wanted)
    diffuser = empty_diffuser(_config(folder, unets), modalities, wanted)
    tensors[DIFFUSER] = {
        key: tensor
        for output in sorted(unets, reverse=True)  # both hold the global layers; the image U-Net's are taken
        for key, tensor in diffusers_parts.unet(
            folder / _UNETS[output], output, unets[output], diffuser, options
        ).items()
    }
    return Checkpoint(diffuser, modalities, read_scheduler(folder / "scheduler"), tensors)


def _class_name(folder: Path) -> str:
    """The pipeline that was saved there, as far as it is told."""
    index = folder / INDEX
    return read_json(index).get("_class_name", "") if index.is_file() else ""


def _held(folder: Path) -> dict[str, tuple[str, ...]]:
    """The modalities whose context layers are in the U-Net of each output.

    The text-to-image pipeline of diffusers exchanges those of its U-Nets, and the dual-guided one adds those of texts
    to the image U-Net.
    """
    if _class_name(folder) == _TEXT_TO_IMAGE:
        return {"image": ("text",), "text": ("image",)}
    config = folder / _UNETS["image"] / "config.json"
    dual = config.is_file() and read_json(config).get("dual_cross_attention")
    return {"image": ("image", "text") if dual else ("image",), "text": ("text",)}


def _needed(held: Mapping[str, tuple[str, ...]], wanted: Wanted) -> dict[str, tuple[str, ...]]:
    """What `_held` says of the U-Nets that are to be read: those of the outputs, and of contexts that these lack."""
    needed = {output: held[output] for output in wanted.outputs}
    for context in wanted.contexts:
        if not any(context in contexts for contexts in needed.values()):
            needed |= {output: contexts for output, contexts in held.items() if context in contexts}
    return needed


def _config(folder: Path, outputs: Iterable[str]) -> DiffuserConfig:
    """The sizes that the U-Nets of these outputs share."""
    configs = [diffusers_parts.diffuser_config(folder / _UNETS[name]) for name in outputs]
    if any(config != configs[0] for config in configs):
        raise CheckpointError(f"image_unet and text_unet in {folder} differ in their blocks: {configs}.")
    return configs[0]


def _image(folder: Path, wanted: Wanted, options: FileOptions) -> tuple[ImageModality, Mapping[str, LazyTensor]]:
    makes, given = "image" in wanted.outputs, "image" in wanted.contexts
    vae, encoder = folder / "vae", folder / "image_encoder"
    modality = empty(
        lambda: ImageModality(
            diffusers_parts.autoencoder_config(vae, folder / _UNETS["image"]) if makes else None,
            diffusers_parts.clip_config(encoder) if given else None,
            diffusers_parts.scaling_factor(vae) if makes else diffusers_parts.SCALING_FACTOR,
        )
    )
    tensors = diffusers_parts.autoencoder(vae, modality, options) if makes else {}
    return modality, tensors | (diffusers_parts.clip(encoder, modality, options) if given else {})


def _text(
    folder: Path, wanted: Wanted, optimus: Path | None, options: FileOptions
) -> tuple[TextModality, Mapping[str, LazyTensor]]:
    makes, given = "text" in wanted.outputs, "text" in wanted.contexts
    if makes and optimus is None:
        raise CheckpointError(
            f"{folder} has no Optimus, which texts are made with. Download pretrained_pth/optimus-vae.pth of "
            f"shi-labs/versatile-diffusion to {folder / OPTIMUS[0]}, or load flows that make images only."
        )
    stored = open_tensors(optimus) if makes and optimus else {}
    stream = diffusers_parts.text_stream(folder / _UNETS["text"]) if makes else {}
    modality = empty(
        lambda: TextModality(
            sizes.optimus(stored, optimus) if makes else None,
            diffusers_parts.clip_config(folder / "text_encoder") if given else None,
            **stream,
        )
    )
    modality.tokenizers = read_tokenizers(folder, wanted, options)
    tensors = parts.optimus(modality, stored, optimus)
    return modality, tensors | (diffusers_parts.clip(folder / "text_encoder", modality, options) if given else {})
