"""LoRAs on disk: ours, and single .safetensors files that others wrote for Stable Diffusion v1.

What a key means is in `lora_keys`; here the tensors of each layer are brought together, and what is no plain LoRA is
refused by name.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from torch import Tensor

from versatile_diffusion.checkpoints import lora_kinds
from versatile_diffusion.checkpoints.errors import CheckpointError, first_few, reading
from versatile_diffusion.checkpoints.folder import read_json
from versatile_diffusion.checkpoints.lora_folder import CONFIG, FEW_STEPS, FORMAT, WEIGHTS
from versatile_diffusion.checkpoints.lora_keys import ALPHA, DOWN, UP, is_of_text_encoder, read_key
from versatile_diffusion.checkpoints.tensors import LazyTensor, Tensors, open_tensors
from versatile_diffusion.sampling.few_steps import FewSteps
from versatile_diffusion.validation import checked

_FOLDER_FILES = (WEIGHTS, "pytorch_lora_weights.safetensors", "adapter_model.safetensors")
_PEFT_CONFIG = "adapter_config.json"
_DIFFUSERS_METADATA = "lora_adapter_metadata"


@dataclass(frozen=True)
class Factors:
    """What a LoRA adds to the weight of a layer: `up @ down`, `scale` times.

    Attributes:
        down: (r i *k), as many rows as its rank.
        up: (o r *1).
        scale: alpha / rank.
    """

    down: LazyTensor
    up: LazyTensor
    scale: float = 1.0

    @property
    def rank(self) -> int:
        """How many products are added up."""
        return self.down.shape[0] if self.down.shape else 0

    def wanted(self, weight: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the shapes of the factors that can change a weight (o i *k)."""
        return (self.rank, *weight[1:]), (weight[0], self.rank, *(1 for _ in weight[2:]))

    def fits(self, weight: tuple[int, ...]) -> bool:
        """Tells whether it can change a weight. Linear layers and 1×1 convolutions are the same here."""
        found = self.down.shape, self.up.shape
        return self.rank > 0 and [*map(_without_ones, found)] == [*map(_without_ones, self.wanted(weight))]

    def load(self, weight: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Returns both factors in the shape of a weight that they fit, with the scale in the second."""
        down, up = self.wanted(weight)
        return self.down.load(torch.float32).reshape(down), self.up.load(torch.float32).reshape(up) * self.scale


@dataclass(frozen=True)
class LoraFile:
    """A LoRA on disk.

    Attributes:
        file: where it is.
        unet: what it adds to layers of the diffuser, by the names that the file gives them.
        text_encoder: what it adds to layers of CLIP's text model, likewise.
        index: what our own folder says of it; empty for files of others.
    """

    file: Path
    unet: Mapping[str, Factors]
    text_encoder: Mapping[str, Factors]
    index: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def told(self) -> str:
        """What our own folder says of its model, as a sentence after another; nothing for files of others."""
        layers: list[object] = self.index.get("layers", [])
        return f" It changes {', '.join(map(str, layers))} of a model of sizes {self.index['model']}." if layers else ""

    def name_of(self, place: Path) -> str:
        """Returns what to call it: the name of the file, or of its folder, if every such file has that name."""
        usual = place.is_dir() or place.name in _FOLDER_FILES
        return self.file.absolute().parent.name if usual else place.stem


def read_lora(place: Path, context_dims: Mapping[str, int]) -> LoraFile:
    """Reads a LoRA, but leaves its tensors on disk.

    Args:
        place: a folder that `save_lora`, diffusers or peft wrote, or a .safetensors file.
        context_dims: of the model that it is for.

    Raises:
        CheckpointError: if it is missing, damaged, or something else than a plain LoRA; the message says what it is.
    """
    with reading(place):
        file = _file(place)
        lora_kinds.require_safetensors(file)
        index = _index(file) if file.name == WEIGHTS and (place.is_dir() or (file.parent / CONFIG).is_file()) else {}
        stored = open_tensors(file)
        lora_kinds.require_plain(stored, context_dims, file)
        layers = _layers(stored, file, _scaling(file))
        unet = {name: factors for name, factors in layers.items() if not is_of_text_encoder(name)}
        return LoraFile(file, unet, {name: layers[name] for name in layers.keys() - unet.keys()}, index)


def few_steps_of(place: Path) -> FewSteps | None:
    """Returns how a LoRA of ours samples in few steps; None if it is none that does.

    Args:
        place: a folder, or its .safetensors file.

    Raises:
        CheckpointError: if its configuration is damaged.
    """
    file = (place if place.is_dir() else place.parent) / CONFIG
    if not file.is_file() or not (file.parent / WEIGHTS).is_file() or (place.is_file() and place.name != WEIGHTS):
        return None
    said = read_json(file).get(FEW_STEPS)
    if said is None:
        return None
    try:
        return checked(FewSteps, cast("dict[str, object]", dict(said)))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{file} does not say how it samples ({error}): copy or make the LoRA again.") from error


def _file(place: Path) -> Path:
    if not place.is_dir():
        return place
    found = next((place / name for name in _FOLDER_FILES if (place / name).is_file()), None)
    alone = sorted(place.glob("*.safetensors"))
    if found is None and len(alone) == 1:
        return alone[0]
    if found is None:
        raise CheckpointError(
            f"{place} holds no LoRA ({', '.join(_FOLDER_FILES)} is missing). Pass a folder that `save_lora` "
            "wrote, or the .safetensors file of one."
        )
    return found


def _index(file: Path) -> dict[str, Any]:
    """What our own folder says of a LoRA."""
    index = read_json(file.parent / CONFIG)
    if index.get("format") != FORMAT or "rank" not in index:
        raise CheckpointError(f"{file.parent} is no LoRA of format {FORMAT}. Pass a folder that `save_lora` wrote.")
    return index


def _layers(stored: Tensors, file: Path, scale_of: Callable[[str, int], float]) -> dict[str, Factors]:
    parts: dict[str, dict[str, LazyTensor]] = defaultdict(dict)
    unknown: list[str] = []
    for key, tensor in stored.items():
        match read_key(key):
            case None:
                unknown.append(key)
            case named:
                parts[named.layer][named.role] = tensor
    halves = [name for name, tensors in parts.items() if not (DOWN in tensors and UP in tensors)]
    if unknown or halves or not parts:
        found = [f"{len(unknown)} tensors of no LoRA ({first_few(unknown)})"] if unknown else []
        found += [f"{len(halves)} layers with one factor of two ({first_few(halves)})"] if halves else []
        raise CheckpointError(f"{file} is no LoRA that can be read: it holds {'; '.join(found) or 'no tensors'}.")
    return {name: _factors(name, tensors, scale_of) for name, tensors in parts.items()}


def _factors(name: str, tensors: Mapping[str, LazyTensor], scale_of: Callable[[str, int], float]) -> Factors:
    factors = Factors(tensors[DOWN], tensors[UP])
    if ALPHA not in tensors:
        return Factors(factors.down, factors.up, scale_of(name, factors.rank))
    return Factors(factors.down, factors.up, tensors[ALPHA].load(torch.float32).item() / max(factors.rank, 1))


def _scaling(file: Path) -> Callable[[str, int], float]:
    """What scales a layer of a rank, where no tensor says it: configurations of peft and diffusers do."""
    opened = safe_open(file, framework="pt")
    metadata = cast("dict[str, str] | None", opened.metadata()) or {}  # pyright: ignore[reportUnknownMemberType] - untyped in safetensors
    if _DIFFUSERS_METADATA in metadata:
        said = cast("dict[str, Any]", json.loads(metadata[_DIFFUSERS_METADATA]))  # by network, with its prefix
        networks = {key.partition(".")[0] for key in said}
        configs = {f"{name}.": _under(f"{name}.", said) for name in networks}
    elif file.name == "adapter_model.safetensors" and (file.parent / _PEFT_CONFIG).is_file():
        configs = {"base_model.model.": read_json(file.parent / _PEFT_CONFIG)}
    else:
        configs = {}

    def scale_of(layer: str, rank: int) -> float:
        found = next(((prefix, config) for prefix, config in configs.items() if layer.startswith(prefix)), None)
        return 1.0 if found is None or rank == 0 else _configured(layer.removeprefix(found[0]), rank, found[1])

    return scale_of


def _configured(layer: str, rank: int, config: Mapping[str, Any]) -> float:
    """The scale of a layer by the configuration of peft, whose patterns are those of the ends of names."""
    patterns: Mapping[str, float] = config.get("alpha_pattern") or {}
    of_layer = (alpha for pattern, alpha in patterns.items() if re.match(rf"(.*\.)?({pattern})$", layer))
    alpha = next(of_layer, config.get("lora_alpha") or rank)
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _under(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The first two sizes, and the others up to the last that is not 1."""
    kept = list(shape)
    while len(kept) > 2 and kept[-1] == 1:
        kept.pop()
    return tuple(kept)
