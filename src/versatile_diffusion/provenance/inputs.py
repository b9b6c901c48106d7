"""Inputs of recipes: pictures, masks and arrays, named by checksums of their values.

A value is a tensor: uint8 (h w 3) for a picture and (h w) for a mask, as far as 8 bits hold it exactly, any other one
as it is. Where it is stored, the former is a PNG, the latter safetensors.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from versatile_diffusion.provenance.record import Input

FOLDER = "inputs"
_MOST_PIXELS = 100_000_000
_PNG = b"\x89PNG"


def picture_value(picture: Tensor) -> Tensor:
    """Of a picture (3 h w) in [0, 1]."""
    levels = _levels(picture)
    return picture if levels is None else levels.movedim(0, -1).contiguous()


def mask_value(mask: Tensor) -> Tensor:
    """Of a mask (h w) in [0, 1]."""
    levels = _levels(mask)
    return mask if levels is None else levels


def named(value: Tensor) -> Input:
    """A value by its checksum."""
    content = value.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{content.dtype} {tuple(content.shape)}".encode())
    digest.update(content.flatten().view(torch.uint8).numpy().data)
    return Input(sha256=digest.hexdigest(), shape=tuple(content.shape))


def usable(value: Tensor) -> Any:
    """A value as contexts take it."""
    return Image.fromarray(value.numpy()) if value.dtype == torch.uint8 else value


def stored(value: Tensor) -> bytes:
    """A value as the content of a file."""
    from safetensors.torch import save

    if value.dtype != torch.uint8:
        return save({"value": value.detach().cpu().contiguous()})
    file = io.BytesIO()
    Image.fromarray(value.numpy()).save(file, "PNG")
    return file.getvalue()


def restored(content: bytes) -> Tensor:
    """The value of a file's content.

    Raises:
        ValueError: if there is none in it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        if not content.startswith(_PNG):
            (value,) = load(content).values()
            return value
        image = Image.open(io.BytesIO(content), formats=["PNG"])
        if image.width * image.height > _MOST_PIXELS or image.mode not in ("L", "RGB"):
            raise ValueError(f"a picture of {image.width} × {image.height} pixels and mode {image.mode}")
        return _of_image(image)
    except (OSError, SyntaxError, ValueError, SafetensorError, Image.DecompressionBombError) as error:
        raise ValueError(f"An input of a recipe is damaged: {error}.") from error


def file_name(value: Tensor) -> str:
    """Of the file that a value is stored in."""
    return f"{named(value).sha256}.{'png' if value.dtype == torch.uint8 else 'safetensors'}"


def find(folder: Path, sha256: str) -> Tensor | None:
    """What a folder holds under a checksum, if it is what it is called."""
    for suffix in ("png", "safetensors"):
        file = folder / f"{sha256}.{suffix}"
        if file.is_file():
            value = restored(file.read_bytes())
            if named(value).sha256 == sha256:
                return value
    return None


def _levels(values: Tensor) -> Tensor | None:
    """Values in [0, 1] as uint8, if that holds them exactly."""
    levels = (values * 255).round().to(torch.uint8)
    return levels if torch.equal(levels.float() / 255, values) else None


def _of_image(image: Image.Image) -> Tensor:
    import numpy as np

    return torch.from_numpy(np.array(image))
