"""What each flow needs of the large model, counted without a weight in memory."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import init_empty_weights  # pyright: ignore[reportMissingTypeStubs] - there are none

from versatile_diffusion.bench.report import Figure, Result, Settings
from versatile_diffusion.checkpoints import Components
from versatile_diffusion.flows import Flow
from versatile_diffusion.model_presets import Preset, build

FLOWS = ("text-to-image", "image-variation", "image-to-text", "text-variation")
_DTYPE = torch.float16


def measure(settings: Settings) -> Result:
    """Counts the bytes that are read for each flow, and for all."""
    needed = {flow: [Flow.parse(flow)] for flow in FLOWS} | {"all flows": None}
    figures = [Figure(name, "bytes", [stored_bytes(empty(settings.sizes, flows))]) for name, flows in needed.items()]
    return Result("Bytes read from disk", figures, {"dtype": str(_DTYPE)})


def empty(preset: Preset, flows: list[Flow] | None = None) -> Components:
    """Builds a model whose parameters take no memory."""
    with init_empty_weights(include_buffers=False):
        return build(preset, flows)


def stored_bytes(components: Components, dtype: torch.dtype = _DTYPE) -> int:
    """Counts the bytes of a model's tensors on disk, if numbers are stored as `dtype`."""
    return sum(
        tensor.numel() * (dtype if tensor.is_floating_point() else tensor.dtype).itemsize
        for module in (components.diffuser, *components.modalities.values())
        for tensor in module.state_dict().values()
    )


@contextmanager
def kept_folder(
    cache: Path | None, name: str, is_there: Callable[[Path], bool], make: Callable[[Path], None]
) -> Generator[Path, None, None]:
    """Opens a folder that is made once and kept in the cache, or one that is made anew and removed at the end."""
    if cache is None:
        with tempfile.TemporaryDirectory() as temporary, kept_folder(Path(temporary), name, is_there, make) as folder:
            yield folder
        return
    folder = cache / name
    cache.mkdir(parents=True, exist_ok=True)
    if not is_there(folder):
        make(folder)
    yield folder


def require_room(folder: Path, size: int) -> None:
    """Raises OSError unless so many bytes can be written there."""
    free = shutil.disk_usage(folder).free
    if size > 0.9 * free:
        raise OSError(f"{folder} has {free / 1e9:.1f} GB left, {size / 1e9:.1f} are needed: pass another --cache.")
