"""A pool of images on disk, rendered once and read as an array.

Rendering costs as much as a training step, so training draws from a pool. The pool is written in parts, each whole or
not at all: a run that was killed goes on with the parts that are missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from rich.progress import track

from versatile_diffusion.worlds.postcards.data import Postcards

PART = 1000


@dataclass(frozen=True)
class _Part:
    """Some pictures in a file of their own."""

    postcards: Postcards
    start: int
    stop: int
    path: Path

    def render(self) -> None:
        """Draws it, unless it is there."""
        if not self.path.exists():
            _write(self.path, np.stack([self.postcards[i].image for i in range(self.start, self.stop)]))


def image_pool(postcards: Postcards, folder: Path) -> UInt8[np.ndarray, "n size size 3"]:
    """Returns the pictures of all `postcards`, memory-mapped from `folder`, rendered where missing.

    Raises:
        TypeError: if the postcards have no end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = list(_parts(postcards, folder))
    whole = folder / f"postcards-{postcards.seed}-{postcards.split.value}-{len(postcards)}-{postcards.size}.npy"
    if not whole.exists():
        _render(parts)
        _write(whole, np.concatenate([np.load(part.path, mmap_mode="r") for part in parts]))
    for part in parts:  # of this run, or of one that was killed here
        part.path.unlink(missing_ok=True)
    return np.load(whole, mmap_mode="r")


def _parts(postcards: Postcards, folder: Path) -> Iterator[_Part]:
    name = f"part-{postcards.seed}-{postcards.split.value}-{postcards.size}"
    for start in range(0, len(postcards), PART):
        stop = min(start + PART, len(postcards))
        yield _Part(postcards, start, stop, folder / f"{name}-{start}-{stop}.npy")


def _render(parts: Sequence[_Part]) -> None:
    """Renders what is missing, on all cores if it is much."""
    with ExitStack() as stack:
        run = map
        if len(parts) > 1:
            run = stack.enter_context(ProcessPoolExecutor(mp_context=get_context("spawn"))).map
        for _ in track(run(_Part.render, parts), "rendering postcards", total=len(parts)):
            pass


def _write(path: Path, array: np.ndarray) -> None:
    unfinished = path.with_suffix(".tmp")  # always the same, so that what a killed run left is written over
    with unfinished.open("wb") as file:
        np.save(file, array)
    unfinished.replace(path)
