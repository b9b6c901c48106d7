"""Images and masks as numbers: read from whatever users give, and brought back into what they want."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from versatile_diffusion._moved import former_names
from versatile_diffusion.modalities.image_files import exceeds_eight_bits, open_file, readable, rgb, upright

_TOLERANCE = 1e-3  # rounding of an image that was computed

Array = NDArray[np.generic]


def read_images(data: object) -> list[Float[Tensor, "3 h w"]]:
    """Reads one image or a list of them.

    An image is a PIL image of any mode, a path, a data URL, or an array or tensor, (h w 3) or (3 h w), of uint8 or of
    numbers in [0, 1]; one colour channel or none makes it grey, a fourth is its opacity. Transparent images are laid on
    white. A 4-dimensional array is a list.

    Raises:
        TypeError: if it is something else.
        ValueError: if it cannot be read, has another shape, or values out of range.
    """
    if isinstance(data, str | Path):
        return [_from_pil(open_file(data))]
    if isinstance(data, Image.Image):
        return [_from_pil(_loaded(data))]
    if isinstance(data, np.ndarray | Tensor):
        values = _tensor(cast("Array | Tensor", data))  # an array may hold anything, which is checked further down
        habit = 0 if isinstance(data, Tensor) else -1
        return [_from_numbers(image, habit) for image in (values if values.ndim == 4 else values[None])]
    if isinstance(data, list | tuple):
        return [image for item in cast("Sequence[object]", data) for image in read_images(item)]
    raise TypeError(f"A picture must be a PIL image, a path, an array, a tensor or a list of these, got {type(data)}.")


def read_mask(mask: object) -> Float[Tensor, "h w"]:
    """Reads a mask: a PIL image, a path, a data URL, or an array or tensor (h w). What is 1 or white is kept.

    Arrays hold booleans, uint8 (0 and 1, or up to 255) or numbers in [0, 1]. What is transparent is not kept.

    Raises:
        TypeError: if it is something else.
        ValueError: if it has another shape, values out of range, or keeps nothing.
    """
    if isinstance(mask, str | Path):
        mask = open_file(mask)
    if isinstance(mask, Image.Image):
        mask = _mask_levels(_loaded(mask))
    if not isinstance(mask, np.ndarray | Tensor):
        raise TypeError(f"A mask must be a PIL image, a path, an array or a tensor, got {type(mask)}.")
    values = _tensor(cast("Array | Tensor", mask))  # see `read_images`
    shape = tuple(values.shape)
    while values.ndim > 2 and 1 in values.shape:
        values = values.squeeze(values.shape.index(1))
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"A mask must have shape (height, width), got {shape}.")
    if values.dtype == torch.bool or (values.dtype == torch.uint8 and values.max() <= 1):
        values = values.float()
    values = _unit(values, "mask")
    if not values.any():
        raise ValueError("The mask is all zero, so nothing of the picture is left: mark what is to be seen with 1.")
    return values


def levels(values: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"] | None:
    """Returns values in [0, 1] as 8-bit levels, if these hold them exactly."""
    rounded = (values * 255).round().to(torch.uint8)
    return rounded if torch.equal(rounded.float() / 255, values) else None


def resize(image: Float[Tensor, "3 h w"], height: int, width: int) -> Float[Tensor, "3 height width"]:
    """Returns the image at that size (bicubic, with antialiasing), stretched if need be."""
    if image.shape[-2:] == (height, width):
        return image
    resized = interpolate(image[None], size=(height, width), mode="bicubic", antialias=True)
    return resized[0].clamp(0, 1)


def to_pil(image: Float[Tensor, "3 h w"]) -> Image.Image:
    """Returns an image in [0, 1] as an 8-bit RGB image of PIL, rounded."""
    rounded = (image.detach().float().clamp(0, 1) * 255).round().to("cpu", torch.uint8)
    return Image.fromarray(rounded.permute(1, 2, 0).contiguous().numpy())


def present(images: Sequence[Float[Tensor, "3 h w"]], output_type: str) -> list[Image.Image] | Tensor | Array:
    """Returns images of one size as users want them.

    Returns:
        "pil": a list of images of PIL. "pt": a tensor (b 3 h w) in [0, 1]. "np": an array (b h w 3) in [0, 1].

    Raises:
        ValueError: if there is no such output type.
    """
    match output_type:
        case "pil":
            return [to_pil(image) for image in images]
        case "pt":
            return torch.stack(list(images))
        case "np":
            return torch.stack(list(images)).permute(0, 2, 3, 1).float().cpu().numpy()
        case _:
            raise ValueError(f'output_type must be "pil", "pt" or "np", got {output_type!r}.')


def _loaded(image: Image.Image) -> Image.Image:
    """The image with its pixels; PIL may not have read them yet."""
    with readable("an image of PIL"):
        image.load()
    return image


def _from_pil(image: Image.Image) -> Float[Tensor, "3 h w"]:
    seen = rgb(image)
    return _from_numbers(_tensor(_deep(upright(image)) if seen is None else np.array(seen)), habit=-1)


def _mask_levels(image: Image.Image) -> Array:
    """How white and opaque each pixel is, in 8 bits or as numbers in [0, 1]."""
    image = upright(image)
    if exceeds_eight_bits(image):
        return _deep(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return np.array(image.convert("L"))


def _deep(image: Image.Image) -> Array:
    """The numbers of a grey image of more than 8 bits, in [0, 1] unless they are floats already.

    Raises:
        ValueError: if they are integers of which nobody knows what white is.
    """
    values = np.asarray(image)
    if image.mode == "F":
        return values
    return values.astype(np.float32) / _white(values)


def _white(values: Array) -> int:
    """What white is among integers: PIL holds 8-bit and 16-bit greys in the same modes."""
    largest = int(values.max(initial=0))
    if largest > 65535:
        raise ValueError(f"The picture has integers up to {largest}: save it with 8 or 16 bits a channel.")
    return 65535 if values.dtype.itemsize == 2 or largest > 255 else 255


def _from_numbers(values: Tensor, habit: int) -> Float[Tensor, "3 h w"]:
    """An image from its numbers; `habit` is the axis of the channels, 0 or -1, where either would do."""
    if values.ndim == 2:
        values = values[None]
    axes = [axis for axis in (0, -1) if values.ndim == 3 and values.shape[axis] in (1, 3, 4)]
    if not axes or 0 in values.shape:
        raise ValueError(
            f"A picture must have shape (height, width, 3) or (3, height, width), got {tuple(values.shape)}."
        )
    values = values.movedim(min(axes, key=lambda axis: (values.shape[axis] != 3, axis != habit)), 0)
    values = _unit(values, "picture")
    if values.shape[0] == 4:
        opacity = values[3:]
        values = values[:3] * opacity + (1 - opacity)
    return values.expand(3, -1, -1).contiguous()


def _tensor(array: Array | Tensor) -> Tensor:
    """A tensor on the CPU, of an array in whatever order of bytes and axes."""
    if isinstance(array, Tensor):
        if array.is_meta or array.layout is not torch.strided:
            raise ValueError("A picture must be a dense tensor that holds its values.")
        return array.detach().cpu()
    kind = np.dtype("float64") if array.dtype.kind == "f" and array.dtype.itemsize > 8 else array.dtype
    native = np.array(array, dtype=kind.newbyteorder("="), order="C")
    try:
        return torch.as_tensor(native)
    except TypeError as error:  # numbers of a kind that PyTorch does not have, or no numbers
        raise ValueError(f"A picture must be uint8 or have numbers in [0, 1], got {array.dtype}.") from error


def _unit(values: Tensor, what: str) -> Tensor:
    """Values as floats in [0, 1]."""
    if values.dtype == torch.uint8:
        return values.float() / 255
    if values.dtype == torch.uint16:
        return values.float() / 65535
    if not values.is_floating_point():
        raise ValueError(f"A {what} must be uint8 or have numbers in [0, 1], got {values.dtype}: convert it to uint8.")
    values = values.float()
    if not values.isfinite().all():
        raise ValueError(f"The {what} has values that are NaN or infinite: replace them, for instance by 0.")
    low, high = values.min().item(), values.max().item()
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        advice = "divide it by 255" if low >= 0 else "shift and scale it, x / 2 + 0.5 if it lies in [-1, 1]"
        raise ValueError(f"A {what} of floats must lie in [0, 1], got [{low:.3g}, {high:.3g}]: {advice}.")
    return values.clamp(0, 1)


__getattr__ = former_names(
    __name__,
    {
        "read_pictures": "versatile_diffusion.modalities.images:read_images",
        "require_picture": "versatile_diffusion.modalities.image_files:require_image",
    },
)
