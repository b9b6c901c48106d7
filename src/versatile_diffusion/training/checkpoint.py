"""Training checkpoints: safetensors only, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

_PREFIX = "step-"


def save(
    folder: Path, step: int, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, keep: int
) -> Path:
    """Writes `folder/step-N` and removes all but the newest `keep` checkpoints."""
    target = folder / f"{_PREFIX}{step:08d}"
    unfinished = folder / f".unfinished-{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save_file(_contiguous(model.state_dict()), unfinished / "model.safetensors")
    save_file(_contiguous(average.state_dict()), unfinished / "average.safetensors")
    save_file(_contiguous(optimizer_tensors(model, optimizer)), unfinished / "optimizer.safetensors")
    (unfinished / "state.json").write_text(json.dumps({"step": step}))
    shutil.rmtree(target, ignore_errors=True)
    unfinished.replace(target)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def checkpoints(folder: Path) -> list[Path]:
    """All whole checkpoints, oldest first."""
    return sorted(folder.glob(f"{_PREFIX}*"))


def load(path: Path, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restores model, average and optimizer in place, and returns the step."""
    model.load_state_dict(load_file(path / "model.safetensors"))
    average.load_state_dict(load_file(path / "average.safetensors"))
    load_optimizer_tensors(model, optimizer, load_file(path / "optimizer.safetensors"))
    state: dict[str, Any] = json.loads((path / "state.json").read_text())
    return state["step"]


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state under the names of the parameters: `weight/exp_avg` and so on."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts back what `optimizer_tensors` took."""
    parameters = dict(model.named_parameters())
    for name, value in tensors.items():
        parameter, key = name.rsplit("/", 1)
        optimizer.state[parameters[parameter]][key] = value


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
