"""Pictures and masks as they come from outside, and as they go back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

_TOLERANCE = 1e-3  # rounding of a picture that was computed


def read_pictures(data: Any) -> list[Float[Tensor, "3 h w"]]:
    """Reads one picture or a list of them.

    A picture is a PIL image of any mode, a path, or an array or tensor, (h w 3) or (3 h w), of uint8 or of numbers in
    [0, 1]; one colour channel or none makes it grey, a fourth is its opacity. Transparent pictures are laid on white.
    A 4-dimensional array is a list.

    Raises:
        TypeError: if it is something else.
        ValueError: if it cannot be read, has another shape, or values out of range.
    """
    match data:
        case str() | Path():
            return [_from_pil(_load(Path(data)))]
        case Image.Image():
            return [_from_pil(data)]
        case np.ndarray() | Tensor() if data.ndim == 4:
            return [_from_array(picture) for picture in data]
        case np.ndarray() | Tensor():
            return [_from_array(data)]
        case list() | tuple():
            return [picture for item in data for picture in read_pictures(item)]
    raise TypeError(f"A picture must be a PIL image, a path, an array, a tensor or a list of these, got {type(data)}.")


def read_mask(mask: Any) -> Float[Tensor, "h w"]:
    """Reads a mask: a PIL image, a path, or an array or tensor (h w). What is 1 or white is kept.

    Arrays hold booleans, uint8 (0 and 1, or up to 255) or numbers in [0, 1].

    Raises:
        TypeError: if it is something else.
        ValueError: if it has another shape, values out of range, or keeps nothing.
    """
    if isinstance(mask, str | Path):
        mask = _load(Path(mask))
    if isinstance(mask, Image.Image):
        mask = np.array(ImageOps.exif_transpose(mask).convert("L"))
    if not isinstance(mask, np.ndarray | Tensor):
        raise TypeError(f"A mask must be a PIL image, a path, an array or a tensor, got {type(mask)}.")
    values = _tensor(mask)
    while values.ndim > 2 and 1 in values.shape:
        values = values.squeeze(values.shape.index(1))
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"A mask must have shape (height, width), got {tuple(mask.shape)}.")
    if values.dtype == torch.bool or (values.dtype == torch.uint8 and values.max() <= 1):
        values = values.float()
    values = _unit(values, "mask")
    if not values.any():
        raise ValueError("The mask is all zero, so nothing of the picture is left: mark what is to be seen with 1.")
    return values


def require_picture(path: Path) -> None:
    """Raises ValueError unless a file holds a picture, as far as that can be told without decoding it."""
    with _readable(path), Image.open(path) as image:
        image.verify()


def rgb(image: Image.Image) -> Image.Image | None:
    """What is seen of a picture: upright, on white. None if it has more than 8 bits, which PIL would cut off."""
    if image.mode.startswith("I") or image.mode == "F":
        return None
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def resize(picture: Float[Tensor, "3 h w"], height: int, width: int) -> Float[Tensor, "3 height width"]:
    """The picture at that size (bicubic, with antialiasing), stretched if need be."""
    if picture.shape[-2:] == (height, width):
        return picture
    resized = interpolate(picture[None], size=(height, width), mode="bicubic", antialias=True)
    return resized[0].clamp(0, 1)


def to_pil(picture: Float[Tensor, "3 h w"]) -> Image.Image:
    """A picture in [0, 1] as an 8-bit RGB image, rounded."""
    levels = (picture.detach().float().clamp(0, 1) * 255).round().to("cpu", torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


def present(pictures: list[Float[Tensor, "3 h w"]], output_type: str) -> Any:
    """Pictures of one size as users want them.

    Returns:
        "pil": a list of images. "pt": a tensor (b 3 h w) in [0, 1]. "np": an array (b h w 3) in [0, 1].

    Raises:
        ValueError: if there is no such output type.
    """
    match output_type:
        case "pil":
            return [to_pil(picture) for picture in pictures]
        case "pt":
            return torch.stack(pictures)
        case "np":
            return torch.stack(pictures).permute(0, 2, 3, 1).float().cpu().numpy()
    raise ValueError(f'output_type must be "pil", "pt" or "np", got {output_type!r}.')


def _load(path: Path) -> Image.Image:
    with _readable(path):
        image = Image.open(path)
        image.load()
    return image


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What PIL raises of a file, as a ValueError that names it."""
    try:
        yield
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError) as error:
        raise ValueError(f"Cannot read a picture from {path}: {error}") from error


def _from_pil(image: Image.Image) -> Float[Tensor, "3 h w"]:
    if (seen := rgb(image)) is not None:
        return _from_array(np.array(seen))
    values = np.asarray(ImageOps.exif_transpose(image))
    return _from_array(values.astype(np.float32) / _full_scale(values) if image.mode != "F" else values)


def _full_scale(values: np.ndarray) -> int:
    """The white of an integer picture: PIL holds 8-bit and 16-bit greys in the same modes."""
    return 65535 if values.dtype == np.uint16 or values.max(initial=0) > 255 else 255


def _from_array(array: np.ndarray | Tensor) -> Float[Tensor, "3 h w"]:
    values = _tensor(array)
    if values.ndim == 2:
        values = values[None]
    axes = [axis for axis in (0, -1) if values.ndim == 3 and values.shape[axis] in (1, 3, 4)]
    if not axes or 0 in values.shape:
        raise ValueError(
            f"A picture must have shape (height, width, 3) or (3, height, width), got {tuple(values.shape)}."
        )
    habit = 0 if isinstance(array, Tensor) else -1  # of each library, decides where both would do
    values = values.movedim(min(axes, key=lambda axis: (values.shape[axis] != 3, axis != habit)), 0)
    values = _unit(values, "picture")
    if values.shape[0] == 4:
        opacity = values[3:]
        values = values[:3] * opacity + (1 - opacity)
    return values.expand(3, -1, -1).contiguous()


def _tensor(array: np.ndarray | Tensor) -> Tensor:
    return array.detach().cpu() if isinstance(array, Tensor) else torch.from_numpy(np.array(array, order="C"))


def _unit(values: Tensor, what: str) -> Tensor:
    """Values as floats in [0, 1]."""
    if values.dtype == torch.uint8:
        return values.float() / 255
    if values.dtype == torch.uint16:
        return values.float() / 65535
    if not values.is_floating_point():
        raise ValueError(f"A {what} must be uint8 or have numbers in [0, 1], got {values.dtype}: convert it to uint8.")
    if not values.isfinite().all():
        raise ValueError(f"The {what} has values that are NaN or infinite: replace them, for instance by 0.")
    low, high = values.min().item(), values.max().item()
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        advice = "divide it by 255" if low >= 0 else "shift and scale it, x / 2 + 0.5 if it lies in [-1, 1]"
        raise ValueError(f"A {what} of floats must lie in [0, 1], got [{low:.3g}, {high:.3g}]: {advice}.")
    return values.float().clamp(0, 1)
