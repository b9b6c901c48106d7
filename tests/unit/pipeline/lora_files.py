"""LoRAs of random values for a small Stable Diffusion, in the layouts of other trainers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Generator, Tensor, nn

Tensors = dict[str, Tensor]
Change = tuple[str, Tensor, Tensor, float]
"""The name of a layer in diffusers, the factors down and up, and alpha."""


def changes(network: nn.Module, only: str = ".*", seed: int = 0, spread: float = 0.3) -> Iterator[Change]:
    """A change of each linear layer and convolution whose name fits, of ranks 2 and 3 and of different alphas."""
    generator = Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * spread

    for number, (name, layer) in enumerate(network.named_modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d) and re.fullmatch(only, name):
            rank = 2 + number % 2
            out, *inner = layer.weight.shape
            yield name, drawn(rank, *inner), drawn(out, rank, *(1 for _ in inner[1:])), float(1 + number % 3)


def kohya(network: nn.Module, prefix: str = "lora_unet_", only: str = ".*", alpha: float | None = 1.5) -> Tensors:
    """One alpha for all, or (None) one for each: of several, diffusers 0.42 takes the most frequent for attention."""
    tensors: Tensors = {}
    for name, down, up, own in changes(network, only):
        stem = f"{prefix}{name.replace('.', '_')}"
        tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
        tensors[f"{stem}.alpha"] = torch.tensor(own if alpha is None else alpha)
    return tensors


def named(network: nn.Module, prefix: str, factors: tuple[str, str], only: str = ".*") -> Tensors:
    """Layers under their own names, without alphas."""
    tensors: Tensors = {}
    for name, down, up, _ in changes(network, only):
        tensors |= {f"{prefix}{name}.{factors[0]}.weight": down, f"{prefix}{name}.{factors[1]}.weight": up}
    return tensors


def attention_processors(unet: UNet2DConditionModel, prefix: str = "") -> Tensors:
    """What diffusers wrote until 0.21: attention alone, under the names of its processors."""
    tensors: Tensors = {}
    for name, down, up, _ in changes(unet, r".*attn\d\.(to_[qkv]|to_out\.0)"):
        attention, _, projection = name.removesuffix(".0").rpartition(".")
        stem = f"{prefix}{attention}.processor.{projection}_lora"
        tensors |= {f"{stem}.down.weight": down, f"{stem}.up.weight": up}
    return tensors


LAYOUTS: dict[str, Callable[[UNet2DConditionModel], Tensors]] = {
    "kohya": kohya,
    "peft": lambda unet: named(unet, "unet.", ("lora_A", "lora_B")),
    "diffusers": lambda unet: named(unet, "unet.", ("lora.down", "lora.up"), r".*(attn|ff|proj|resnets).*"),
    "attention processors": lambda unet: attention_processors(unet, "unet."),
}


def saved(tensors: Tensors, file: Path, metadata: dict[str, str] | None = None) -> Path:
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, file, metadata)
    return file
