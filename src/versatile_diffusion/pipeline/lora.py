"""LoRAs (arXiv 2106.09685) of the diffuser, through peft: small changes of its layers that are trained and kept apart.

lora/
  config.json             its rank, the layers that it changes, the sizes of its model
  lora.safetensors        two factors for each layer, under the layer's name
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Literal, cast

from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] - typed in part
from torch import Tensor, nn

from versatile_diffusion import kernels
from versatile_diffusion.checkpoints.errors import CheckpointError
from versatile_diffusion.checkpoints.folder import replacing
from versatile_diffusion.checkpoints.lora_files import Factors, read_lora
from versatile_diffusion.checkpoints.lora_folder import CONFIG, FEW_STEPS, FORMAT, WEIGHTS
from versatile_diffusion.checkpoints.lora_keys import text_layers, unet_layers
from versatile_diffusion.diffuser import Diffuser, DiffuserConfig
from versatile_diffusion.pipeline.lora_layers import FACTORS, adaptable_layers, adapted_layers, group_of, inject
from versatile_diffusion.pipeline.lora_matching import fill, matched
from versatile_diffusion.sampling.few_steps import FewSteps

Layers = Literal["cross-attention", "context", "data", "both"]

_PATTERNS = {
    "cross-attention": r"context_layers\.{modality}\..*\.attend_cross\..*",
    "context": r"context_layers\.{modality}\..*",
    "data": r"data_layers\.{modality}\..*",
    "both": r"(context|data)_layers\.{modality}\..*",
}


def add_lora(
    diffuser: Diffuser, rank: int = 4, layers: Layers = "context", modality: str | None = None, name: str = "lora"
) -> None:
    """Adds an untrained LoRA, which changes nothing yet, and freezes all else.

    Args:
        diffuser: to be changed.
        rank: of the change of each layer.
        layers: which linear layers and convolutions it changes: those of the cross-attention, of all context layers,
            of all data layers, or of both.
        modality: only layers of this modality; of all by default.
        name: what it is called.

    Raises:
        ValueError: if there are no such layers, the rank is below 1, or the name is taken.
        ImportError: if peft is missing.
    """
    if rank < 1:
        raise ValueError(f"The rank of a LoRA must be 1 or more, got {rank}.")
    if layers not in _PATTERNS:
        raise ValueError(f"layers must be one of {', '.join(_PATTERNS)}, got {layers!r}.")
    kernels.restore(diffuser)
    pattern = _PATTERNS[layers].replace("{modality}", r"\w+" if modality is None else re.escape(modality))
    targets = [path for path, _ in adaptable_layers(diffuser) if re.fullmatch(pattern, path)]
    if not targets:
        raise ValueError(f"The diffuser has no {layers} layers of modality {modality!r}.")
    others = adapters(diffuser)
    unfuse_lora(diffuser)
    inject(diffuser, name, dict.fromkeys(targets, rank))
    set_adapters(diffuser, others | {name: 1.0})
    for _, layer in adapted_layers(diffuser):
        for factors in (layer.lora_A, layer.lora_B):
            if name in factors:
                factors[name].requires_grad_(True)


def save_lora(diffuser: Diffuser, folder: Path | str, name: str | None = None) -> None:
    """Saves a LoRA, whole or not at all.

    Args:
        diffuser: that holds it.
        folder: is made; a LoRA that was saved there before is replaced, and what lies beside it is kept.
        name: which one; may be left out if there is only one.

    Raises:
        ValueError: if there is none of that name.
        FileExistsError: if the folder holds something else.
    """
    known = list(adapters(diffuser))
    name = known[0] if name is None and len(known) == 1 else name
    if name is None or name not in known:
        raise ValueError(f"Name one of the LoRAs that are here ({', '.join(known) or 'none'}), got {name!r}.")
    layers = {path: layer for path, layer in adapted_layers(diffuser) if name in layer.lora_A}
    tensors: dict[str, Tensor] = {
        f"{path}.{factor}.weight": getattr(layer, factor)[name].weight
        for path, layer in layers.items()
        for factor in FACTORS
    }
    write_lora(diffuser, tensors, folder)


def write_lora(
    diffuser: Diffuser, tensors: Mapping[str, Tensor], folder: Path | str, few: FewSteps | None = None
) -> None:
    """Writes the two factors of each layer of a LoRA, whole or not at all, as `save_lora` does.

    Args:
        diffuser: whose layers it changes; its weights need not be there.
        tensors: the factors, by "LAYER.lora_A.weight" and "LAYER.lora_B.weight".
        folder: see `save_lora`.
        few: how it samples, if it was distilled to few steps.

    Raises:
        FileExistsError: if the folder holds something else.
    """
    index: dict[str, object] = {
        "format": FORMAT,
        "rank": next(len(tensor) for key, tensor in tensors.items() if ".lora_A." in key),
        "layers": sorted({group_of(path) for path in tensors}),
        "model": {key: diffuser.config[key] for key in (*(f.name for f in fields(DiffuserConfig)), "context_dims")},
    }
    if few is not None:
        index[FEW_STEPS] = few.model_dump(mode="json")
    with replacing(Path(folder), _saved_parts, "LoRA") as target:
        (target / CONFIG).write_text(json.dumps(index, indent=2) + "\n")
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, target / WEIGHTS)
        shutil.copymode(target / CONFIG, target / WEIGHTS)  # safetensors lets the owner alone read it


def load_lora(
    diffuser: Diffuser,
    folder: Path | str,
    name: str | None = None,
    scale: float = 1.0,
    text_encoder: nn.Module | None = None,
) -> str:
    """Adds a LoRA to those that are active, and returns its name. Fused ones are unfused.

    It may be one of ours, or a file that another trainer (kohya's, diffusers', peft's) wrote for Stable Diffusion v1,
    whose U-Net has the same layers as the flow from text to image. Of a model that was opened for some flows only, it
    changes the layers that are there.

    Args:
        diffuser: to be changed.
        folder: where `save_lora` wrote it, or a .safetensors file.
        name: what to call it; the folder's or the file's name by default.
        scale: how much of it; 0 is nothing, 1 is as it was trained.
        text_encoder: CLIP's, which is changed as well, if the LoRA says so. Without one, a warning tells what of the
            LoRA is left out.

    Raises:
        CheckpointError: if it is missing, damaged, of another kind, or belongs to another model.
        ValueError: if the name is taken.
        ImportError: if peft is missing.
    """
    folder = Path(folder).expanduser()
    kernels.restore(diffuser)
    found = read_lora(folder, diffuser.config["context_dims"])
    changes = matched(diffuser, unet_layers(diffuser.plan), found.unet, found)
    of_texts: dict[str, Factors] = {}
    if text_encoder is not None:
        names = text_layers(path for path, _ in adaptable_layers(text_encoder))
        of_texts = matched(text_encoder, names, found.text_encoder, found)
    elif found.text_encoder:
        warnings.warn(
            f"{found.file} also changes {len(found.text_encoder)} layers of CLIP's text encoder, which are left out: "
            "this model was opened without it.",
            UserWarning,
            stacklevel=2,
        )
    if not changes and not of_texts:
        raise CheckpointError(f"{found.file} changes only what this model was opened without: open it with all flows.")
    name = re.sub(r"\W+", "_", found.name_of(folder)) if name is None else name
    _add(diffuser, name, scale, changes)
    if text_encoder is not None:
        _add(text_encoder, name, scale, of_texts)
    return name


def adapters(diffuser: nn.Module) -> dict[str, float]:
    """Returns the LoRAs that are here with their scales; those that are switched off have 0."""
    found: dict[str, float] = {}
    for _, layer in adapted_layers(diffuser):
        scales: dict[str, float] = layer.scaling  # pyright: ignore[reportUnknownMemberType] - untyped in peft
        found |= {name: scales[name] if name in layer.active_adapters else 0.0 for name in layer.lora_A}
    return found


def set_adapters(diffuser: nn.Module, scales: Mapping[str, float]) -> None:
    """Switches these LoRAs on, at these scales, and all others off. Fused ones are unfused, and none is trained on.

    Args:
        diffuser: that holds them.
        scales: by the names of LoRAs; 0 switches one off.

    Raises:
        ValueError: if there is none of that name.
    """
    known = adapters(diffuser)
    if unknown := [name for name in scales if name not in known]:
        raise ValueError(f"There is no LoRA {', '.join(unknown)}, only {', '.join(known) or 'none'}: load it first.")
    unfuse_lora(diffuser)
    for _, layer in adapted_layers(diffuser):
        layer.set_adapter([name for name, scale in scales.items() if scale != 0 and name in layer.lora_A])
        cast(nn.Module, layer).requires_grad_(False)  # each is a module as well
        for name, scale in scales.items():
            layer.set_scale(name, scale)


def fuse_lora(diffuser: nn.Module) -> None:
    """Adds the active LoRAs to the weights, so that they cost no time."""
    unfuse_lora(diffuser)
    for _, layer in adapted_layers(diffuser):
        layer.merge()


def unfuse_lora(diffuser: nn.Module) -> None:
    """Takes fused LoRAs out of the weights again, up to rounding; they stay active."""
    for _, layer in adapted_layers(diffuser):
        if layer.merged:
            layer.unmerge()


def unload_lora(diffuser: nn.Module) -> None:
    """Removes all LoRAs: the model is as it was before, and may be trained as a whole."""
    unfuse_lora(diffuser)
    for path, layer in list(adapted_layers(diffuser)):
        diffuser.set_submodule(path, layer.get_base_layer())
    vars(diffuser).pop("peft_config", None)
    diffuser.requires_grad_(True)


def fuse_and_unload_lora(diffuser: nn.Module) -> None:
    """Adds the active LoRAs to the weights for good and removes all: what is left is a model like any other."""
    fuse_lora(diffuser)
    for _, layer in adapted_layers(diffuser):
        layer.merged_adapters.clear()
    unload_lora(diffuser)


def _add(network: nn.Module, name: str, scale: float, changes: Mapping[str, Factors]) -> None:
    """Adds to the layers of a network, beside the LoRAs that are active."""
    if changes:
        others = adapters(network)
        unfuse_lora(network)
        inject(network, name, {path: factors.rank for path, factors in changes.items()})
        fill(network, name, changes)
        set_adapters(network, others | {name: scale})


def _saved_parts(folder: Path) -> tuple[str, ...]:
    """Returns the names of what `save_lora` wrote in a folder; none if it did not write it."""
    return (CONFIG, WEIGHTS) if (folder / WEIGHTS).is_file() else ()


# ---- names of before ----

_RENAMED: Mapping[str, Callable[..., object]] = {
    "loras": adapters,
    "set_loras": set_adapters,
    "merge_loras": fuse_lora,
    "unmerge_loras": unfuse_lora,
    "unload_loras": unload_lora,
    "bake_loras": fuse_and_unload_lora,
}


def __getattr__(name: str) -> Callable[..., object]:
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    new = _RENAMED[name]
    warnings.warn(f"`{name}` is called `{new.__name__}` now.", DeprecationWarning, stacklevel=2)
    return new
