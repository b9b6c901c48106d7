"""From a scene to its picture."""

import numpy as np
from jaxtyping import UInt8

from .drawing import draw
from .scene import Scene
from .styles import STYLES

SIZES = range(16, 257, 16)


def render(scene: Scene, size: int = 64) -> UInt8[np.ndarray, "size size 3"]:
    """Returns the scene's picture, uint8 (size, size, 3): the same for equal scenes, and much the same at any size.

    Raises ValueError unless `size` is a multiple of 16 from 32 to 256.
    """
    if size not in SIZES:
        raise ValueError(f"size must be a multiple of 16 from {SIZES[0]} to {SIZES[-1]}, not {size}")
    rng = np.random.default_rng((scene.seed, 1))
    return np.clip(STYLES[scene.style](draw(scene, size), rng), 0, 255).astype(np.uint8)
