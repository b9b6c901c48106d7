"""Training checkpoints: safetensors only, written whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType] - safetensors leaves a parameter untyped
from torch import Tensor

from versatile_diffusion.training.average import WeightAverage

_PREFIX = "step-"


def save(
    folder: Path,
    state: Mapping[str, Any],
    trained: Mapping[str, Tensor],
    average: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    keep: int,
) -> Path:
    """Writes `folder/step-N`, unless it is there, and removes all but the newest `keep` checkpoints.

    Args:
        folder: of the run.
        state: "step", and what else the run must remember; as JSON.
        trained: the parameters that are trained, by their names.
        average: their average, by the same names.
        optimizer: of these parameters.
        keep: at least 1.
    """
    target = folder / f"{_PREFIX}{state['step']:08d}"
    if target.exists():
        return target
    unfinished = folder / ".unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save_file(_contiguous(trained), unfinished / "model.safetensors")
    save_file(_contiguous(average), unfinished / "average.safetensors")
    save_file(_contiguous(optimizer_tensors(trained, optimizer)), unfinished / "optimizer.safetensors")
    (unfinished / "state.json").write_text(json.dumps(dict(state)))
    unfinished.replace(target)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def checkpoints(folder: Path) -> list[Path]:
    """Returns all whole checkpoints, oldest first."""
    return sorted(folder.glob(f"{_PREFIX}*"))


def identity(folder: Path) -> str:
    """Returns what a run has come to: the name of its newest checkpoint, and a checksum of the averaged weights."""
    whole = checkpoints(folder)
    if not whole:
        return "its start"
    digest = sha256((whole[-1] / "average.safetensors").read_bytes()).hexdigest()
    return f"{whole[-1].name} ({digest[:12]})"


def read_state(path: Path) -> dict[str, Any]:
    """Returns the state that a checkpoint was saved with."""
    return json.loads((path / "state.json").read_text())


def load(
    path: Path, trained: Mapping[str, Tensor], average: WeightAverage, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Restores parameters, their average and the optimizer in place, and returns the state.

    Raises:
        ValueError: if the checkpoint is of other parameters; the message names the first.
    """
    stored = _named(load_file(path / "model.safetensors"))
    if wrong := [name for name, tensor in trained.items() if getattr(stored.get(name), "shape", None) != tensor.shape]:
        raise ValueError(
            f"{path} is a checkpoint of something else: {wrong[0]} is not there, or of another size. Choose another "
            "folder for this run."
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(stored[name])
    average.load(_named(load_file(path / "average.safetensors")))
    load_optimizer_tensors(trained, optimizer, load_file(path / "optimizer.safetensors"))
    return read_state(path)


def optimizer_tensors(trained: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns the optimizer's state under the names of the parameters: `weight/exp_avg` and so on."""
    return {
        f"{name}/{key}": value
        for name, parameter in trained.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(
    trained: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Puts back what `optimizer_tensors` took, where and as its parameters are stored."""
    for name, value in tensors.items():
        path, key = name.rsplit("/", 1)
        parameter = trained[path]
        there = value.to(parameter.device)  # the number of steps, too, as fused optimizers expect it
        moved = there if key == "step" else torch.empty_like(parameter, requires_grad=False).copy_(there)
        optimizer.state[parameter][key] = moved


def _named(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the names of parameters, which earlier versions wrote after "module." in averages."""
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
