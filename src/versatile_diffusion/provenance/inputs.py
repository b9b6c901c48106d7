# pyright: strict
"""Inputs of records: items of data, masks and arrays, named by checksums of their values.

A value is a tensor that holds its item exactly; see `Codec.values`. One of 8 bits, (h w 3) or (h w), is stored as a
PNG, any other one as safetensors.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard, TypeVar

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from versatile_diffusion.modalities.images import levels, read_mask
from versatile_diffusion.modalities.spec import Codec
from versatile_diffusion.provenance.record import Input

FOLDER = "inputs"
_MOST_PIXELS = 100_000_000
_PNG = b"\x89PNG"
T = TypeVar("T")


def item_value(codec: Codec, data: object, item: int, items: int) -> str | Tensor:
    """Returns the value of one item of data, which are a batch, or the same for all its items.

    Args:
        codec: of the modality.
        data: one item, or several, each of which may be for as many of the batch in a row.
        item: number of the item in the batch.
        items: how many the batch has.
    """
    if is_batch(data):
        return codec.values([_of(data, item, items)])[0]
    return _of(codec.values(data), item, items)


def is_batch(data: object) -> TypeGuard[Sequence[object]]:
    """Tells whether data are several items, which come as a list."""
    return isinstance(data, list | tuple)


def is_single(codec: Codec, data: object) -> bool:
    """Tells whether data are one item: a text, an image, or a list or an array of one."""
    if is_batch(data):
        return len(data) == 1
    return isinstance(data, str) or not hasattr(data, "shape") or len(codec.values(data)) == 1


def is_item(codec: Codec, value: Tensor) -> bool:
    """Tells whether a stored value is an item of the modality, and not its latent."""
    try:
        again = codec.values(codec.restored(value))
    except (TypeError, ValueError):
        return False
    return len(again) == 1 and isinstance(again[0], Tensor) and named(again[0]) == named(value)


def mask_value(mask: object) -> Tensor:
    """Returns the value of a mask (h w): its 8-bit levels if they hold it exactly, else its numbers in [0, 1]."""
    read = read_mask(mask)
    exact = levels(read)
    return read if exact is None else exact


def restored_mask(value: Tensor) -> Image.Image | Tensor:
    """Returns a mask as contexts take it."""
    return Image.fromarray(value.numpy()) if value.dtype == torch.uint8 else value


def named(value: Tensor) -> Input:
    """Returns a value by its checksum."""
    content = value.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{content.dtype} {tuple(content.shape)}".encode())
    digest.update(content.flatten().view(torch.uint8).numpy().data)
    return Input(sha256=digest.hexdigest(), shape=tuple(content.shape))


def stored(value: Tensor) -> bytes:
    """Returns a value as the content of a file."""
    if not _is_png(value):
        return save({"value": value.detach().cpu().contiguous()})
    file = io.BytesIO()
    Image.fromarray(value.numpy()).save(file, "PNG")
    return file.getvalue()


def restored(content: bytes) -> Tensor:
    """Returns the value of a file's content.

    Raises:
        ValueError: if there is none in it.
    """
    try:
        if not content.startswith(_PNG):
            (value,) = load(content).values()
            return value
        image = Image.open(io.BytesIO(content), formats=["PNG"])
        if image.width * image.height > _MOST_PIXELS or image.mode not in ("L", "RGB"):
            raise ValueError(f"a picture of {image.width} × {image.height} pixels and mode {image.mode}")
        return torch.as_tensor(np.array(image))
    except (OSError, SyntaxError, ValueError, SafetensorError, Image.DecompressionBombError) as error:
        raise ValueError(f"An input of a recipe is damaged: {error}.") from error


def file_name(value: Tensor) -> str:
    """Returns the name of the file that a value is stored in."""
    return f"{named(value).sha256}.{'png' if _is_png(value) else 'safetensors'}"


def find(folder: Path, sha256: str) -> Tensor | None:
    """Returns what a folder holds under a checksum, if it is what it is called."""
    for suffix in ("png", "safetensors"):
        file = folder / f"{sha256}.{suffix}"
        if file.is_file():
            value = restored(file.read_bytes())
            if named(value).sha256 == sha256:
                return value
    return None


def _is_png(value: Tensor) -> bool:
    return value.dtype == torch.uint8 and (value.ndim == 2 or (value.ndim == 3 and value.shape[2] == 3))


def _of(values: Sequence[T], item: int, items: int) -> T:
    """The value of one item, where each value is for as many items in a row."""
    return values[item * len(values) // items]
