"""Loading one flow of a large saved model: the highest memory of a fresh process, against what it is to hold.

Also how long that takes, against diffusers' `from_pretrained` of its pipeline of that flow, both from its own folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from versatile_diffusion.bench import loader
from versatile_diffusion.bench.image_job import ImageJob
from versatile_diffusion.bench.peer_model import done, peer_folder
from versatile_diffusion.bench.report import Figure, Result, Settings
from versatile_diffusion.bench.sizes import empty, kept_folder, require_room, stored_bytes
from versatile_diffusion.bench.timing import alternate
from versatile_diffusion.checkpoints.components import DIFFUSER, Checkpoint
from versatile_diffusion.checkpoints.folder import is_ours, write
from versatile_diffusion.checkpoints.sources import read_source
from versatile_diffusion.checkpoints.tensors import LazyTensor
from versatile_diffusion.devices import DTYPES
from versatile_diffusion.flows import Flow
from versatile_diffusion.model_presets import Preset

_FLOW = "text-to-image"
_STORED = torch.float16
_AT_MOST = 1.1
_SHARD = "500MB"
_BLOCK = 2**16


def measure(settings: Settings) -> Result:
    """Loads a model of all flows that is stored in float16, as it is and as float32, in a new process each round."""
    figures: list[Figure] = []
    model = kept_folder(settings.cache, "random-model", is_ours, partial(write_random, settings.sizes))
    with model as folder:
        for name in ("fp16", "fp32"):
            found = [_load(folder, name) for _ in range(settings.rounds)]
            figures += _figures(f"as {name}", _needed(folder, DTYPES[name]), found)
    with peer_folder(settings.cache, settings.sizes) as folder:
        for name in ("fp16", "fp32"):
            figures += _beside_diffusers(folder, name, settings.rounds)
    how = {"flow": _FLOW, "stored as": str(_STORED)}
    return Result("Loading one flow of a saved folder", figures, how)


def write_random(preset: Preset, folder: Path) -> None:
    """Saves a model of random numbers, which are made as they are written.

    Raises:
        OSError: If there is no room for it.
    """
    components = empty(preset)
    require_room(folder.parent, stored_bytes(components, _STORED))
    modules = {DIFFUSER: components.diffuser, **components.modalities}
    tensors = {
        name: {key: _random(tensor) for key, tensor in module.state_dict().items()} for name, module in modules.items()
    }
    checkpoint = Checkpoint(components.diffuser, components.modalities, components.scheduler, tensors)
    write(checkpoint, folder, max_shard_size=_SHARD)


def _random(tensor: torch.Tensor) -> LazyTensor:
    """Returns a tensor of random numbers, of that shape, that is made when it is read."""
    shape, dtype = tuple(tensor.shape), _STORED if tensor.is_floating_point() else tensor.dtype
    size = tensor.numel()

    def make() -> torch.Tensor:
        block = torch.rand(min(size, _BLOCK)).to(dtype)  # repeated, because drawing billions of numbers takes minutes
        return block.repeat(-(-size // len(block)))[:size].reshape(shape)

    return LazyTensor(shape, dtype, make)


def _needed(folder: Path, dtype: torch.dtype) -> int:
    """Counts the bytes of the tensors that are loaded."""
    stored = read_source(folder, [Flow.parse(_FLOW)]).tensors
    return sum(tensor.nbytes(dtype) for tensors in stored.values() for tensor in tensors.values())


def _load(folder: Path, dtype: str) -> dict[str, float]:
    """Loads the flow in a process of its own, and returns what the loader prints."""
    command = [sys.executable, "-m", loader.__name__, str(folder), _FLOW, dtype]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def _beside_diffusers(folder: Path, dtype: str, rounds: int) -> Iterator[Figure]:
    """Times the opening of diffusers' folder, by ours and by diffusers' pipeline in turns."""

    def opening(number: int, who: str) -> float:
        return done(ImageJob(who, str(folder), dtype, pixels=0, steps=0))["opening"]

    works = {who: partial(opening, who=who) for who in ("ours", "diffusers")}
    times = {who: [run.output for run in runs] for who, runs in alternate(works, rounds).items()}
    yield from (Figure(f"diffusers' folder as {dtype}: {who}", "s", took) for who, took in times.items())
    faster = [theirs / mine for mine, theirs in zip(*times.values(), strict=True)]
    yield Figure(f"diffusers' folder as {dtype}: diffusers / ours", "×", faster)


def _figures(how: str, needed: int, found: list[dict[str, float]]) -> list[Figure]:
    peaks = [run["peak"] for run in found]
    anonymous = [run["peak_anonymous"] for run in found]
    return [
        Figure(f"{how}: needed", "bytes", [needed]),
        Figure(f"{how}: peak", "bytes", peaks),
        Figure(f"{how}: peak without mapped files", "bytes", anonymous),
        Figure(f"{how}: peak / needed", "×", [peak / needed for peak in peaks], at_most=_AT_MOST),
        Figure(f"{how}: time", "s", [run["seconds"] for run in found]),
    ]
