"""LoRAs (arXiv 2106.09685) of the diffuser, through peft: small changes of its layers that are trained and kept apart.

lora/
  config.json             its rank, the layers that it changes, the sizes of its model
  lora.safetensors        two factors for each layer, under the layer's name
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, cast

from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] - typed in part
from torch import Tensor, nn

from versatile_diffusion import kernels
from versatile_diffusion.checkpoints.errors import CheckpointError, first_few
from versatile_diffusion.checkpoints.folder import read_json, replacing
from versatile_diffusion.checkpoints.tensors import Tensors, open_tensors
from versatile_diffusion.diffuser import Diffuser, DiffuserConfig
from versatile_diffusion.pipeline.lora_layers import FACTORS, adaptable_layers, adapted_layers, group_of, inject

Layers = Literal["cross-attention", "context", "data", "both"]

CONFIG, WEIGHTS, FORMAT = "config.json", "lora.safetensors", 1
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
    inject(diffuser, name, rank, targets)
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
    index = {
        "format": FORMAT,
        "rank": next(len(tensor) for key, tensor in tensors.items() if ".lora_A." in key),
        "layers": sorted({group_of(path) for path in layers}),
        "model": {key: diffuser.config[key] for key in (*(f.name for f in fields(DiffuserConfig)), "context_dims")},
    }
    with replacing(Path(folder), _saved_parts, "LoRA") as target:
        (target / CONFIG).write_text(json.dumps(index, indent=2) + "\n")
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, target / WEIGHTS)


def load_lora(diffuser: Diffuser, folder: Path | str, name: str | None = None, scale: float = 1.0) -> str:
    """Adds a saved LoRA to those that are active, and returns its name. Fused ones are unfused.

    Of a model that was opened for some flows only, it changes the layers that are there.

    Args:
        diffuser: to be changed.
        folder: where `save_lora` wrote it.
        name: what to call it; the folder's name by default.
        scale: how much of it; 0 is nothing, 1 is as it was trained.

    Raises:
        CheckpointError: if it is missing, damaged, or belongs to another model.
        ValueError: if the name is taken.
        ImportError: if peft is missing.
    """
    folder = Path(folder)
    index, tensors = read_json(folder / CONFIG), open_tensors(folder / WEIGHTS)
    if index.get("format") != FORMAT or "rank" not in index:
        raise CheckpointError(f"{folder} is no LoRA of format {FORMAT}. Pass a folder that `save_lora` wrote.")
    kernels.restore(diffuser)
    groups = {group_of(path) for path, _ in adaptable_layers(diffuser)}
    here = {key: tensor for key, tensor in tensors.items() if group_of(key) in groups}
    _require_fit(diffuser, here, index, folder)
    others = adapters(diffuser)
    name = re.sub(r"\W+", "_", folder.resolve().name) if name is None else name
    unfuse_lora(diffuser)
    inject(diffuser, name, index["rank"], sorted({key.rsplit(".", 2)[0] for key in here}))
    for path, layer in adapted_layers(diffuser):
        for factor in FACTORS:
            if f"{path}.{factor}.weight" in here:
                # In the model's own type: the diffuser computes in one.
                module = getattr(layer, factor)[name].to(layer.get_base_layer().weight.dtype)
                module.weight.data.copy_(here[f"{path}.{factor}.weight"].load())
    set_adapters(diffuser, others | {name: scale})
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


def _require_fit(diffuser: nn.Module, tensors: Tensors, index: Mapping[str, Any], folder: Path) -> None:
    """Raises CheckpointError unless the model has all layers of a LoRA, of their sizes."""
    layers, rank = dict(adaptable_layers(diffuser)), index["rank"]
    wrong: list[str] = []
    for path in sorted({key.rsplit(".", 2)[0] for key in tensors}):
        if path not in layers:
            wrong.append(f"{path} is not there")
            continue
        weight = layers[path].weight
        wanted = ((rank, *weight.shape[1:]), (weight.shape[0], rank, *(1 for _ in weight.shape[2:])))
        keys = [f"{path}.{factor}.weight" for factor in FACTORS]
        found = tuple(tensors[key].shape if key in tensors else None for key in keys)
        if found != wanted:
            wrong.append(f"{path} has {found} instead of {wanted}")
    if wrong or not tensors:
        raise CheckpointError(
            f"{folder} is a LoRA of another model: {len(wrong)} layers do not fit ({first_few(wrong)}). It changes "
            f"{', '.join(index.get('layers', []))} of a model of sizes {index.get('model')}. Load that model, with all "
            "its flows, or train a LoRA for this one."
        )


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
