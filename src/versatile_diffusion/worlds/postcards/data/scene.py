"""What a postcard shows: seven attributes and a seed for everything else."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from types import MappingProxyType

import numpy as np

ATTRIBUTES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "place": ("meadow", "desert", "sea", "mountains", "city"),
        "time": ("day", "sunset", "night"),
        "weather": ("clear", "cloudy", "rain", "snow"),
        "subject": ("house", "tree", "tent", "lighthouse", "balloon", "windmill"),
        "color": ("red", "yellow", "green", "blue", "purple", "white"),
        "position": ("left", "middle", "right"),
        "style": ("postcard", "oil painting", "pencil sketch", "pixel art", "watercolor"),
    }
)

HELD_OUT_ONE_IN = 10


class Split(Enum):
    """Which combinations of attributes may occur."""

    TRAIN = "train"
    HELD_OUT = "held_out"
    ALL = "all"


@dataclass(frozen=True)
class Scene:
    """One postcard: a value of each of `ATTRIBUTES`, and the seed of its free variation."""

    place: str
    time: str
    weather: str
    subject: str
    color: str
    position: str
    style: str
    seed: int

    def __post_init__(self) -> None:
        for name, value in self.attributes.items():
            if value not in ATTRIBUTES[name]:
                raise ValueError(f"{name} must be one of {ATTRIBUTES[name]}, not {value!r}")
        if self.seed < 0:
            raise ValueError("the seed must not be negative")

    @property
    def attributes(self) -> dict[str, str]:
        """Attribute name -> value, in the order of `ATTRIBUTES`."""
        return {name: getattr(self, name) for name in ATTRIBUTES}

    @property
    def indices(self) -> tuple[int, ...]:
        """The place of each value in its row of `ATTRIBUTES`: class labels for a classifier."""
        return tuple(ATTRIBUTES[name].index(value) for name, value in self.attributes.items())


def is_held_out(scene: Scene) -> bool:
    """Tells whether the combination of attributes (whatever the seed) belongs to the held-out tenth."""
    digest = blake2b("|".join(scene.attributes.values()).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_ONE_IN == 0


def sample_scene(rng: np.random.Generator, split: Split = Split.TRAIN) -> Scene:
    """Returns a scene drawn uniformly from the combinations of `split`, with a fresh seed."""
    counts = [len(values) for values in ATTRIBUTES.values()]
    while True:
        indices: list[int] = rng.integers(counts).tolist()
        chosen = {name: values[i] for (name, values), i in zip(ATTRIBUTES.items(), indices, strict=True)}
        scene = Scene(**chosen, seed=int(rng.integers(2**31)))  # pyright: ignore[reportUnknownArgumentType] - NumPy leaves it to the platform
        if split is Split.ALL or is_held_out(scene) == (split is Split.HELD_OUT):
            return scene
