"""Postcards as a data set: picture, caption and scene for every index."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from jaxtyping import UInt8

from .captions import caption
from .render import render
from .scene import Scene, Split, sample_scene


@dataclass(frozen=True)
class Postcard:
    """A picture, uint8 (size, size, 3), with a caption and the scene behind both."""

    image: UInt8[np.ndarray, "size size 3"]
    caption: str
    scene: Scene


class Postcards:
    """Postcards by index. Item i depends on seed, split and i alone, so workers and resumed runs agree.

    Without a length there is no end: `len` raises TypeError, every index from 0 is valid and iteration goes on.
    """

    def __init__(self, seed: int, length: int | None = None, split: Split = Split.TRAIN, size: int = 64) -> None:
        self.seed, self.length, self.split, self.size = seed, length, split, size

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("these postcards have no end: give a length")
        return self.length

    def __getitem__(self, index: int) -> Postcard:
        rng = self._rng(index)
        scene = sample_scene(rng, self.split)
        return Postcard(render(scene, self.size), caption(scene, rng), scene)

    def scene(self, index: int) -> Scene:
        """Returns the scene behind item `index`, without drawing it."""
        return sample_scene(self._rng(index), self.split)

    def _rng(self, index: int) -> np.random.Generator:
        if index < 0 and self.length is not None:
            index += self.length
        if index < 0 or (self.length is not None and index >= self.length):
            raise IndexError(f"no postcard {index} of {self.length}")
        return np.random.default_rng((self.seed, list(Split).index(self.split), index))

    def __iter__(self) -> Iterator[Postcard]:
        return (self[i] for i in (count() if self.length is None else range(self.length)))
