"""LoRAs (arXiv 2106.09685) of the diffuser, through peft: small changes of its layers that are trained and kept apart.

lora/
  config.json             its rank, the layers that it changes, the sizes of its model
  lora.safetensors        two factors for each layer, under the layer's name
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safetensors.torch import save_file
from torch import nn

from versatile_diffusion.checkpoints.errors import CheckpointError, first_few
from versatile_diffusion.checkpoints.folder import read_json, replacing
from versatile_diffusion.checkpoints.tensors import Tensors, open_tensors
from versatile_diffusion.diffuser import Diffuser, DiffuserConfig
from versatile_diffusion.kernels.packing import unpack
from versatile_diffusion.kernels.quantization import is_quantized

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer

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
    unpack(diffuser)
    pattern = _PATTERNS[layers].replace("{modality}", r"\w+" if modality is None else re.escape(modality))
    targets = [path for path, _ in _layers(diffuser) if re.fullmatch(pattern, path)]
    if not targets:
        raise ValueError(f"The diffuser has no {layers} layers of modality {modality!r}.")
    others = loras(diffuser)
    _inject(diffuser, name, rank, targets)
    set_loras(diffuser, others | {name: 1.0})
    for _, layer in _adapted(diffuser):
        for factors in (layer.lora_A, layer.lora_B):
            if name in factors:
                factors[name].requires_grad_(True)


def save_lora(diffuser: nn.Module, folder: Path | str, name: str | None = None) -> None:
    """Saves a LoRA, whole or not at all.

    Args:
        diffuser: that holds it.
        folder: is made; a LoRA that was saved there before is replaced, and what lies beside it is kept.
        name: which one; may be left out if there is only one.

    Raises:
        ValueError: if there is none of that name.
        FileExistsError: if the folder holds something else.
    """
    known = list(loras(diffuser))
    name = known[0] if name is None and len(known) == 1 else name
    if name not in known:
        raise ValueError(f"Name one of the LoRAs that are here ({', '.join(known) or 'none'}), got {name!r}.")
    layers = {path: layer for path, layer in _adapted(diffuser) if name in layer.lora_A}
    tensors = {f"{path}.{f}.weight": getattr(layer, f)[name].weight for path, layer in layers.items() for f in _FACTORS}
    config: Any = diffuser.config
    index = {
        "format": FORMAT,
        "rank": next(iter(layers.values())).r[name],
        "layers": sorted({_group(path) for path in layers}),
        "model": {key: config[key] for key in (*(f.name for f in fields(DiffuserConfig)), "context_dims")},
    }
    with replacing(Path(folder), _saved_parts, "LoRA") as target:
        (target / CONFIG).write_text(json.dumps(index, indent=2) + "\n")
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, target / WEIGHTS)


def load_lora(diffuser: Diffuser, folder: Path | str, name: str | None = None, scale: float = 1.0) -> str:
    """Adds a saved LoRA to those that are active, and returns its name. Merged ones are unmerged.

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
    unpack(diffuser)
    groups = {_group(path) for path, _ in _layers(diffuser)}
    tensors = {key: tensor for key, tensor in tensors.items() if _group(key) in groups}
    _require_fit(diffuser, tensors, index, folder)
    others = loras(diffuser)
    name = re.sub(r"\W+", "_", folder.resolve().name) if name is None else name
    _inject(diffuser, name, index["rank"], sorted({key.rsplit(".", 2)[0] for key in tensors}))
    for path, layer in _adapted(diffuser):
        for factor in _FACTORS:
            if f"{path}.{factor}.weight" in tensors:
                # In the model's own type: the diffuser computes in one.
                module = getattr(layer, factor)[name].to(layer.get_base_layer().weight.dtype)
                module.weight.data.copy_(tensors[f"{path}.{factor}.weight"].load())
    set_loras(diffuser, others | {name: scale})
    return name


def loras(diffuser: nn.Module) -> dict[str, float]:
    """The LoRAs that are here, and their scales; those that are switched off have 0."""
    return {
        name: layer.scaling[name] if name in layer.active_adapters else 0.0
        for _, layer in _adapted(diffuser)
        for name in layer.lora_A
    }


def set_loras(diffuser: nn.Module, scales: Mapping[str, float]) -> None:
    """Switches these LoRAs on, at these scales, and all others off. Merged ones are unmerged, and none is trained on.

    Raises:
        ValueError: if there is none of that name.
    """
    known = loras(diffuser)
    if unknown := [name for name in scales if name not in known]:
        raise ValueError(f"There is no LoRA {', '.join(unknown)}, only {', '.join(known) or 'none'}: load it first.")
    unmerge_loras(diffuser)
    for _, layer in _adapted(diffuser):
        layer.set_adapter([name for name, scale in scales.items() if scale != 0 and name in layer.lora_A])
        for parameter in layer.parameters():  # pyright: ignore[reportAttributeAccessIssue]
            parameter.requires_grad_(False)
        for name, scale in scales.items():
            layer.set_scale(name, scale)


def merge_loras(diffuser: nn.Module) -> None:
    """Adds the active LoRAs to the weights, so that they cost no time."""
    unmerge_loras(diffuser)
    for _, layer in _adapted(diffuser):
        layer.merge()  # pyright: ignore[reportCallIssue]


def unmerge_loras(diffuser: nn.Module) -> None:
    """Takes merged LoRAs out of the weights again, up to rounding; they stay active."""
    for _, layer in _adapted(diffuser):
        if layer.merged:
            layer.unmerge()


def unload_loras(diffuser: nn.Module) -> None:
    """Removes all LoRAs: the model is as it was before, and may be trained as a whole."""
    unmerge_loras(diffuser)
    for path, layer in list(_adapted(diffuser)):
        diffuser.set_submodule(path, layer.get_base_layer())
    vars(diffuser).pop("peft_config", None)
    diffuser.requires_grad_(True)


def bake_loras(diffuser: nn.Module) -> None:
    """Merges the active LoRAs for good and removes all: what is left is a model like any other."""
    merge_loras(diffuser)
    for _, layer in _adapted(diffuser):
        layer.merged_adapters.clear()
    unload_loras(diffuser)


# ---- details ----

_FACTORS = ("lora_A", "lora_B")


def _adapted(diffuser: nn.Module) -> Iterator[tuple[str, LoraLayer]]:
    """The layers that LoRAs change, by their names in a diffuser without any."""
    if not hasattr(diffuser, "peft_config"):
        return
    from peft.tuners.lora import LoraLayer

    yield from ((path, module) for path, module in diffuser.named_modules() if isinstance(module, LoraLayer))


def _layers(diffuser: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that a LoRA may change, by their names in a diffuser without any."""
    adapted = dict(_adapted(diffuser))
    for path, module in diffuser.named_modules():
        if path in adapted:
            yield path, adapted[path].get_base_layer()
        elif isinstance(module, nn.Linear | nn.Conv2d) and not any(path.startswith(f"{other}.") for other in adapted):
            yield path, module


def _inject(diffuser: nn.Module, name: str, rank: int, targets: list[str]) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError("LoRAs need peft: pip install 'versatile-diffusion[lora]'") from error
    if not re.fullmatch(r"\w+", name):
        raise ValueError(f"The name of a LoRA may hold letters, digits and underscores, got {name!r}.")
    if name in loras(diffuser):
        raise ValueError(f"There is a LoRA called {name} already: give this one another name.")
    if any(parameter.is_meta for parameter in diffuser.parameters()):
        raise RuntimeError("The weights are away: load LoRAs before `enable_sequential_cpu_offload`.")
    if is_quantized(diffuser):
        raise ValueError(
            "The weights are int8, which takes no LoRAs: load them before `quantize`, and `bake_loras`. For commands, "
            "save the model that they change."
        )
    unmerge_loras(diffuser)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), diffuser, name)


def _require_fit(diffuser: nn.Module, tensors: Tensors, index: Mapping[str, Any], folder: Path) -> None:
    """Raises CheckpointError unless the model has all layers of a LoRA, of their sizes."""
    layers, rank, wrong = dict(_layers(diffuser)), index["rank"], []
    for path in sorted({key.rsplit(".", 2)[0] for key in tensors}):
        if path not in layers:
            wrong.append(f"{path} is not there")
            continue
        weight: Any = layers[path].weight
        wanted = ((rank, *weight.shape[1:]), (weight.shape[0], rank, *(1 for _ in weight.shape[2:])))
        keys = [f"{path}.{factor}.weight" for factor in _FACTORS]
        found = tuple(tensors[key].shape if key in tensors else None for key in keys)
        if found != wanted:
            wrong.append(f"{path} has {found} instead of {wanted}")
    if wrong or not tensors:
        raise CheckpointError(
            f"{folder} is a LoRA of another model: {len(wrong)} layers do not fit ({first_few(wrong)}). It changes "
            f"{', '.join(index.get('layers', []))} of a model of sizes {index.get('model')}. Load that model, with all "
            "its flows, or train a LoRA for this one."
        )


def _group(path: str) -> str:
    """The layers of one kind and modality that a layer belongs to, such as "context_layers.text"."""
    return ".".join(path.split(".")[:2])


def _saved_parts(folder: Path) -> tuple[str, ...]:
    """The names of what `save_lora` wrote in a folder; none if it did not write it."""
    return (CONFIG, WEIGHTS) if (folder / WEIGHTS).is_file() else ()


class WithLoras:
    """What a pipeline does with LoRAs of its diffuser. See the functions of the same names."""

    diffuser: Diffuser

    def load_lora(self, folder: Path | str, name: str | None = None, scale: float = 1.0) -> str:
        """See `load_lora`."""
        return load_lora(self.diffuser, folder, name, scale)

    @property
    def loras(self) -> dict[str, float]:
        """See `loras`."""
        return loras(self.diffuser)

    def set_loras(self, scales: Mapping[str, float]) -> None:
        """See `set_loras`."""
        set_loras(self.diffuser, scales)

    def merge_loras(self) -> None:
        """See `merge_loras`."""
        merge_loras(self.diffuser)

    def unmerge_loras(self) -> None:
        """See `unmerge_loras`."""
        unmerge_loras(self.diffuser)

    def unload_loras(self) -> None:
        """See `unload_loras`."""
        unload_loras(self.diffuser)

    def bake_loras(self) -> None:
        """See `bake_loras`."""
        bake_loras(self.diffuser)
