"""Training checkpoints: safetensors only, written whole or not at all, by any number of processes.

step-00000100/
  *.safetensors       "trained/NAME", "average/NAME", "optimizer/NAME/KEY", whole or each process's shards
  state.json          the step, and what else the run remembers

PyTorch's distributed checkpoints write and read the tensors (its storage in the hub's format, which has no pickle), so
that a run may go on with another number of processes.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType] - safetensors leaves a parameter untyped
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed  # pyright: ignore[reportUnknownVariableType] - torch leaves parameters untyped
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed  # pyright: ignore[reportUnknownVariableType] - torch leaves parameters untyped

from versatile_diffusion.processes import processes
from versatile_diffusion.training.loop.average import WeightAverage
from versatile_diffusion.training.loop.optimizers import ParameterOptimizer

_PREFIX = "step-"
_TRAINED, _AVERAGE, _OPTIMIZER = "trained", "average", "optimizer"
_WHOLE = "state.safetensors"
_FORMER = {_TRAINED: "model.safetensors", _AVERAGE: "average.safetensors", _OPTIMIZER: "optimizer.safetensors"}
"""The files of checkpoints of earlier versions, which are still read."""


@dataclass(frozen=True)
class TrainingState:
    """All tensors that a run changes.

    Attributes:
        trained: the parameters that are trained, by their names.
        average: of them.
        optimizer: of them.
    """

    trained: Mapping[str, Tensor]
    average: WeightAverage
    optimizer: ParameterOptimizer

    def tensors(self) -> dict[str, Tensor]:
        """Returns all tensors by their names in checkpoints."""
        found = {f"{_TRAINED}/{name}": tensor.detach() for name, tensor in self.trained.items()}
        found |= {f"{_AVERAGE}/{name}": tensor for name, tensor in self.average.tensors.items()}
        for name, parameter in self.trained.items():
            memory = self.optimizer.memory(parameter)
            found |= {f"{_OPTIMIZER}/{name}/{key}": tensor for key, tensor in memory.items()}
        return found

    def prepare(self, names: Iterable[str]) -> None:
        """Makes room for the tensors of the optimizer that a checkpoint holds: it has none before its first step."""
        split = (name.split("/") for name in names)
        learnt = dict.fromkeys(name for kind, name, *_ in split if kind == _OPTIMIZER)
        self.optimizer.begin(self.trained[name] for name in learnt)

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes what was read into the tensors that `tensors` returned; an average that was not kept begins anew."""
        for full_name, tensor in tensors.items():
            kind, name, *key = full_name.split("/")
            if kind == _OPTIMIZER:
                self.optimizer.remember(self.trained[name], key[0], tensor)
        averaged = any(name.startswith(f"{_AVERAGE}/") for name in tensors)
        self.average.begin() if averaged else self.average.begin_anew()


def save(folder: Path, memory: Mapping[str, Any], state: TrainingState, keep: int) -> Path:
    """Writes `folder/step-N`, unless it is there, and removes all but the newest `keep` checkpoints.

    All processes call it together.

    Args:
        folder: of the run.
        memory: "step", and what else the run must remember; as JSON.
        state: what is saved.
        keep: at least 1.
    """
    target = folder / f"{_PREFIX}{memory['step']:08d}"
    if target.exists():
        return target
    unfinished, main = folder / ".unfinished", processes().is_main_process
    if main:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    processes().wait_for_everyone()
    with room_for("A checkpoint", folder), _removed_unless_whole(unfinished):
        _write(state, unfinished)
        processes().wait_for_everyone()
        if main:
            (unfinished / "state.json").write_text(json.dumps(dict(memory)))
            unfinished.replace(target)
    if main:
        for old in checkpoints(folder)[:-keep]:
            shutil.rmtree(old)
    processes().wait_for_everyone()
    return target


def _write(state: TrainingState, folder: Path) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in state.tensors().items()}
    if torch.distributed.is_initialized():
        save_distributed(tensors, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    else:  # the same, without what it takes to agree on who writes what
        save_file({name: tensor.cpu() for name, tensor in tensors.items()}, folder / _WHOLE)


class NoRoomError(OSError):
    """Something of a run could not be written; the message says what, what is whole, and how to go on."""


@contextmanager
def room_for(what: str, folder: Path) -> Generator[None]:
    """Says what to do where something of a run cannot be written.

    Args:
        what: is written, as a sentence begins with it.
        folder: of the run.

    Raises:
        NoRoomError: if it could not; the message names the last checkpoint that is whole.
    """
    try:
        yield
    except NoRoomError:
        raise
    except (SafetensorError, OSError, CheckpointException) as error:
        whole = checkpoints(folder)
        last = f"The last checkpoint is whole: {whole[-1]}." if whole else "There is no checkpoint before it."
        left = shutil.disk_usage(folder).free // 2**20
        raise NoRoomError(
            f"{what} could not be written to {folder} ({error!s:.200}). {last} Free some room, of which {left:,} MiB "
            "are left, and give the same command to go on."
        ) from error


@contextmanager
def _removed_unless_whole(unfinished: Path) -> Generator[None]:
    """Removes a checkpoint that could not be written."""
    try:
        yield
    except (SafetensorError, OSError, CheckpointException):
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def checkpoints(folder: Path) -> list[Path]:
    """Returns all whole checkpoints, oldest first."""
    return sorted(folder.glob(f"{_PREFIX}*"))


def identity(folder: Path) -> str:
    """Returns what a run has come to: the name of its newest checkpoint, and a checksum of its tensors."""
    whole = checkpoints(folder)
    if not whole:
        return "its start"
    former = whole[-1] / _FORMER[_AVERAGE]
    digest = sha256()
    for file in [former] if former.exists() else sorted(whole[-1].glob("*.safetensors")):
        digest.update(file.read_bytes())
    return f"{whole[-1].name} ({digest.hexdigest()[:12]})"


def read_memory(path: Path) -> dict[str, Any]:
    """Returns what the run remembered when the checkpoint was saved."""
    return json.loads((path / "state.json").read_text())


def load(path: Path, state: TrainingState) -> dict[str, Any]:
    """Restores parameters, their average and the optimizer in place, and returns what the run remembered.

    Raises:
        ValueError: if the checkpoint is damaged, or of other parameters; the message says which.
    """
    try:
        if (path / _FORMER[_TRAINED]).exists():
            _load_former(path, state)
        else:
            _load(path, state)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}). Remove it: the run goes on from the one before.") from error
    return read_memory(path)


def _load(path: Path, state: TrainingState) -> None:
    reader = HuggingFaceStorageReader(str(path))
    stored = {name: tuple(each.size) for name, each in reader.read_metadata().state_dict_metadata.items()}  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType, reportUnknownVariableType] - all are tensors
    _require_same(
        path, state, {name.partition("/")[2]: size for name, size in stored.items() if name.startswith(_TRAINED)}
    )
    wanted = _wanted(path, state, stored)
    with torch.no_grad():
        if (path / _WHOLE).exists() and not torch.distributed.is_initialized():
            tensors = load_file(path / _WHOLE)
            for name, tensor in wanted.items():
                tensor.copy_(tensors[name])
        elif torch.distributed.is_initialized():
            load_distributed(wanted, storage_reader=reader)
        else:  # what several processes wrote, read by one, of which PyTorch warns whenever it is asked to
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")
                load_distributed(wanted, storage_reader=reader, no_dist=True)
    state.take(wanted)


def _load_former(path: Path, state: TrainingState) -> None:
    parts = {kind: load_file(path / file) for kind, file in _FORMER.items()}
    stored = {
        f"{kind}/{name.removeprefix('module.')}": tensor for kind, of in parts.items() for name, tensor in of.items()
    }
    _require_same(path, state, {name: tuple(tensor.shape) for name, tensor in parts[_TRAINED].items()})
    wanted = _wanted(path, state, stored)
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(stored[name])
    state.take(wanted)


def _wanted(path: Path, state: TrainingState, stored: Iterable[str]) -> dict[str, Tensor]:
    """The tensors into which a checkpoint that holds tensors of these names is to be read."""
    there = set(stored)
    state.prepare(there)
    wanted = state.tensors()
    if other := [name for name in wanted if name not in there and name.startswith(f"{_OPTIMIZER}/")]:
        raise ValueError(
            f"{path} is a checkpoint of another optimizer: {other[0]} is not there. Go on with the one that it was "
            "begun with, or choose another folder for this run."
        )
    return {name: tensor for name, tensor in wanted.items() if name in there}


def _require_same(path: Path, state: TrainingState, sizes: Mapping[str, tuple[int, ...]]) -> None:
    if wrong := [name for name, tensor in state.trained.items() if sizes.get(name) != tuple(tensor.shape)]:
        raise ValueError(
            f"{path} is a checkpoint of something else: {wrong[0]} is not there, or of another size. Choose another "
            "folder for this run."
        )
