"""Sounds of postcards on disk, rendered once, and what networks hear of them.

Written in parts, each whole or not at all: what was interrupted goes on with the parts that are missing. Their names
hold what the first sound is like, or what is heard of it, so that what has changed is made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Int16
from rich.progress import track
from torch import Tensor

from versatile_diffusion.modalities.sounds import Sound
from versatile_diffusion.worlds.postcards.data import Postcards
from versatile_diffusion.worlds.postcards.sound.render import render_sound
from versatile_diffusion.worlds.postcards.sound.waves import LENGTH, RATE

PART = 100
_FULL_SCALE = 2**15


class ClipPool:
    """The sounds of `postcards`, which are read from a folder and rendered where they are missing.

    Args:
        postcards: with a length.
        folder: made if missing.

    Raises:
        ImportError: if an engine is missing; it says what to install.
        TypeError: if the postcards have no end.
    """

    def __init__(self, postcards: Postcards, folder: Path) -> None:
        self.postcards, self.folder = postcards, folder
        self._starts = range(0, len(postcards), PART)

    @cached_property
    def waves(self) -> Int16[np.ndarray, "n 2 samples"]:
        """All of them, as they were rendered."""
        return self._kept("waves", self._rendered, self._first, "rendering sounds")

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self.postcards)

    def __getitem__(self, index: int) -> Sound:
        """Returns one of them."""
        return _sound(self.waves[index])

    def heard(self, name: str, hear: Callable[[Sequence[Sound]], Tensor]) -> Float16[np.ndarray, "n ..."]:
        """Returns what is heard of all sounds, which is kept as well.

        Args:
            name: of what is kept.
            hear: makes rows of sounds.
        """

        def part(numbers: range) -> np.ndarray:
            return hear([self[number] for number in numbers]).half().numpy()

        first = hear([_sound(self._first[0])]).half().numpy()
        return self._kept(name, part, first, f"hearing sounds: {name}")

    @cached_property
    def _first(self) -> Int16[np.ndarray, "1 2 samples"]:
        return self._rendered(range(1))

    def _kept(self, name: str, make: Callable[[range], np.ndarray], first: np.ndarray, told: str) -> np.ndarray:
        """All rows of what is kept under a name; what is missing is made, or all of it where the first has changed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        likeness = sha256(first.tobytes()).hexdigest()[:8]
        beginning = f"{name}-{likeness}-{self.postcards.seed}-{self.postcards.split.value}"
        parts: Iterable[int] = track(self._starts, told, transient=True)
        return np.concatenate([self._part(beginning, start, make) for start in parts])

    def _part(self, beginning: str, start: int, make: Callable[[range], np.ndarray]) -> np.ndarray:
        stop = min(start + PART, len(self))
        file = self.folder / f"{beginning}-{start}-{stop}.npy"
        if not file.exists():
            unfinished = file.with_suffix(".tmp")
            with unfinished.open("wb") as stream:
                np.save(stream, make(range(start, stop)))
            unfinished.replace(file)
        return np.load(file)

    def _rendered(self, numbers: range) -> Int16[np.ndarray, "n 2 samples"]:
        sounds = (render_sound(self.postcards.scene(number)) for number in numbers)
        waves = np.stack([sound.in_length(LENGTH).samples for sound in sounds])
        return np.round(waves * _FULL_SCALE).clip(-_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


def _sound(wave: Int16[np.ndarray, "2 samples"]) -> Sound:
    return Sound(wave.astype(np.float32) / _FULL_SCALE, RATE)
