"""A pool of pictures on disk, rendered once and read as an array.

Rendering costs as much as a training step, so training draws from a pool. The pool is written in parts, each whole or
not at all: a run that was killed goes on with the parts that are missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from rich.progress import track

from versatile_diffusion.datasets.postcards import Postcards

PART = 1000


def image_pool(postcards: Postcards, folder: Path) -> UInt8[np.ndarray, "n size size 3"]:
    """The pictures of all `postcards`, memory-mapped from `folder`, rendered where missing.

    Raises:
        TypeError: if the postcards have no end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / f"postcards-{postcards.seed}-{postcards.split.value}-{len(postcards)}-{postcards.size}.npy"
    if not whole.exists():
        _join(list(_render_parts(postcards, folder)), whole)
    return np.load(whole, mmap_mode="r")


def _render_parts(postcards: Postcards, folder: Path) -> Iterator[Path]:
    """Renders what is missing, on all cores if it is much, and yields the parts in order."""
    starts = range(0, len(postcards), PART)
    stops = [min(start + PART, len(postcards)) for start in starts]
    name = f"part-{postcards.seed}-{postcards.split.value}-{postcards.size}"
    paths = [folder / f"{name}-{start}-{stop}.npy" for start, stop in zip(starts, stops, strict=True)]
    with ExitStack() as stack:
        run = map
        if len(paths) > 1:
            run = stack.enter_context(ProcessPoolExecutor(mp_context=get_context("spawn"))).map
        jobs = run(_render_part, [postcards] * len(paths), paths, starts, stops)
        for _, path in zip(track(jobs, "rendering postcards", total=len(paths)), paths, strict=True):
            yield path


def _render_part(postcards: Postcards, path: Path, start: int, stop: int) -> None:
    if path.exists():
        return
    images = np.stack([postcards[i].image for i in range(start, stop)])
    _write(path, images)


def _join(parts: list[Path], whole: Path) -> None:
    _write(whole, np.concatenate([np.load(part, mmap_mode="r") for part in parts]))
    for part in parts:
        part.unlink()


def _write(path: Path, array: np.ndarray) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    with unfinished.open("wb") as file:
        np.save(file, array)
    unfinished.replace(path)
