"""Where sampling starts: noise, and data or latents beneath it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Generator, Tensor

from versatile_diffusion.arrays import are_levels, as_tensor
from versatile_diffusion.modalities.base import Modality
from versatile_diffusion.pipeline.conditioning import read_items
from versatile_diffusion.sampling.sampler import draw_noise


def one_each(generator: Generator | Sequence[Generator] | None, count: int) -> list[Generator] | None:
    """Returns a generator for each output, which may be the same one.

    Raises:
        TypeError: if it is no generator; see `check_generator`.
        ValueError: if there are neither one nor `count`.
    """
    if generator is None:
        return None
    check_generator(generator)
    generators = [generator] * count if isinstance(generator, Generator) else list(generator)
    if len(generators) != count:
        raise ValueError(f"{count} outputs need one generator, or {count}, got {len(generators)}.")
    return generators


def check_generator(generator: object) -> None:
    """Finds what is no generator, such as a seed, before anything is computed.

    Raises:
        TypeError: if it is neither None, nor a generator, nor a list of them; the message says what to write.
    """
    several = cast("Sequence[object]", generator) if isinstance(generator, list | tuple) else (generator,)
    for one in several:
        if not isinstance(one, Generator) and generator is not None:
            seed = one if isinstance(one, int) and 0 <= one < 2**64 else 42
            raise TypeError(
                f"generator must be a torch.Generator, or a list with one for each output, got {one!r:.80}. For a "
                f"seed, write torch.Generator().manual_seed({seed}), or seeds=({seed},) with one for each output."
            )


def encode_start(
    modality: Modality, start: object, height: int | None = None, width: int | None = None
) -> Float[Tensor, "b *latent"]:
    """Returns the latents of a start, which may be data, stretched to the size of the outputs, or latents already.

    Raises:
        ValueError: if latents are not of the size that is asked for, or not finite.
        TypeError, ValueError: if data is not of the modality.
    """
    shape = modality.latent_shape(height, width)
    if not is_latent(start, shape):
        return modality.encode(modality.fit(read_items(modality, start), height, width))
    latents = as_tensor(start, "start")
    if (height, width) != (None, None) and latents.shape[1:] != shape:
        raise ValueError(f"Latents of that height and width have shape (batch, *{shape}), got {tuple(latents.shape)}.")
    return latents


def noise(
    shape: tuple[int, ...],
    given: Float[Tensor, "b *latent"] | None,
    generators: Sequence[Generator] | None,
    device: torch.device,
) -> Float[Tensor, "b *latent"]:
    """Returns noise of that shape, each row from its own generator unless it is given.

    Raises:
        ValueError: if the given noise has another shape.
    """
    if given is None:
        return draw_noise(shape, generators, device)
    if given.shape != shape:
        raise ValueError(f"latents must have shape {shape}, got {tuple(given.shape)}.")
    return given.to(device, torch.float32)


def read_start(start: object, shape: tuple[int, ...]) -> object:
    """A start as it is, or as a tensor where it is a batch of latents of such a shape."""
    return as_tensor(start, "start") if is_latent(start, shape) else start


def is_latent(start: object, shape: tuple[int, ...]) -> bool:
    """Tells whether it is a batch of latents of such a shape; images with an alpha channel are one of 8-bit levels."""
    sizes, innermost = _array_sizes(start)
    return len(sizes) == len(shape) + 1 and sizes[1] == shape[0] and not are_levels(innermost)


def _array_sizes(value: object) -> tuple[list[int], object]:
    """The shape of an array, of nested lists of numbers or of lists of arrays; and the first number or array in it."""
    sizes: list[int] = []
    innermost = value
    while isinstance(innermost, list | tuple) and innermost:
        several = cast("Sequence[object]", innermost)  # isinstance says nothing of what is in a list
        sizes.append(len(several))
        innermost = several[0]
    if isinstance(innermost, Tensor | np.ndarray):
        array = cast("Tensor | NDArray[np.generic]", innermost)  # nor of what is in an array
        return [*sizes, *array.shape], array
    return (sizes, cast(object, innermost)) if isinstance(innermost, int | float) else ([], None)
