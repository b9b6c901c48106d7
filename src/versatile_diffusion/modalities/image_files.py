"""Images as PIL opens them, made into what a person sees: upright, in the colours of sRGB, and laid on white.

Nothing here imports PyTorch, so that a server can check what it is sent.
"""

from __future__ import annotations

import io
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from PIL import Image, ImageCms, ImageOps

from versatile_diffusion.files import is_data_url, quoted, read_base64, require_file

_SHOWN = 300  # characters of what PIL says that a message quotes


def open_file(source: Path | str) -> Image.Image:
    """Returns the image in a file of the user's own, in any format of PIL.

    Args:
        source: the path of the file, or a string that is a data URL.

    Raises:
        ValueError: if it cannot be read; the message names the file.
    """
    if isinstance(source, str) and is_data_url(source):
        with readable("a data URL"):
            return _loaded(io.BytesIO(read_base64(source)))
    require_file(Path(source))
    with readable(quoted(source)):
        return _loaded(Path(source))


def require_image(path: Path) -> None:
    """Raises ValueError unless a file holds an image, as far as that can be told without decoding it."""
    require_file(path)
    with readable(quoted(path)), Image.open(path) as image:
        image.verify()


def open_upload(content: bytes, formats: tuple[str, ...], most: int | None = None) -> Image.Image:
    """Returns the image in bytes that anybody may have sent, upright, in the colours of sRGB and without metadata.

    Args:
        content: of the file.
        formats: of PIL that are decoded.
        most: pixels that it may have. They are counted before they are decoded.

    Raises:
        ValueError: if it is of another format, damaged or too large.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=formats)
        _require_few_pixels(image, most)
        image.load()
        image = in_srgb(upright(image))
        if image.has_transparency_data:
            image = image.convert("RGBA")
    except TooLarge:
        raise
    except Image.DecompressionBombError as error:
        raise TooLarge("The picture is too large to be decoded safely: send a smaller one.") from error
    except Exception as error:  # whatever a decoder makes of hostile bytes
        raise ValueError(f"A picture must be whole, and one of {', '.join(formats)}.") from error
    image.info = {}
    return image


class TooLarge(ValueError):
    """An image has more pixels than are allowed; the message says how many are."""


def upright(image: Image.Image) -> Image.Image:
    """Returns the image as its camera was held. One whose EXIF block is damaged stays as it is stored."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # whatever PIL makes of a damaged block, which says nothing of the pixels
        return image


def in_srgb(image: Image.Image) -> Image.Image:
    """Returns the image with the colours that its ICC profile means, in sRGB, which the models were trained on.

    An image without a profile is taken to be in sRGB, and so is one whose profile is damaged or of more than 8 bits.
    """
    profile = image.info.get("icc_profile")
    if not profile or exceeds_eight_bits(image):
        return image
    opacity = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    colours = image if image.mode in ("RGB", "L", "CMYK", "LAB") else _without_opacity(image)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = cast("ImageCms.ImageCmsProfile", ImageCms.createProfile("sRGB"))  # pyright: ignore - untyped in PIL
        transform = ImageCms.buildTransform(source, target, colours.mode, "RGB")
        if colours.mode == "RGB" and _keeps_colours(transform):
            return image
        seen = ImageCms.applyTransform(colours, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # damaged, or of another kind of image
        return image
    assert seen is not None  # it is None for a transform in place
    if opacity is not None:
        seen.putalpha(opacity)
    return seen


def rgb(image: Image.Image) -> Image.Image | None:
    """Returns what a person sees of an image in 8 bits. None if it has more than 8 bits, which PIL would cut off."""
    if exceeds_eight_bits(image):
        return None
    image = in_srgb(upright(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def exceeds_eight_bits(image: Image.Image) -> bool:
    """Tells whether it is grey in 16 or 32 bits."""
    return image.mode.startswith("I") or image.mode == "F"


@contextmanager
def readable(name: str) -> Generator[None]:
    """Raises what PIL raises of a file as a ValueError that names it."""
    try:
        yield
    except Exception as error:  # whatever a decoder makes of a damaged file
        raise ValueError(
            f"Cannot read a picture from {name}: {str(error) or type(error).__name__:.{_SHOWN}}"
        ) from error


def _loaded(file: Path | io.BytesIO) -> Image.Image:
    image = Image.open(file)
    image.load()
    return image


def _require_few_pixels(image: Image.Image, most: int | None) -> None:
    if most is not None and image.width * image.height > most:
        raise TooLarge(
            f"A picture of {image.width} × {image.height} pixels is too large: {most} pixels are left for this request."
        )


def _without_opacity(image: Image.Image) -> Image.Image:
    """The colours alone of an image with a palette or with opacity, in grey if it is grey."""
    return image.convert("L" if image.mode in ("1", "LA", "La") else "RGB")


def _keeps_colours(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether it moves no colour by more than one level: the profile is sRGB's own, under whatever name."""
    steps = range(0, 256, 17)
    probe = Image.new("RGB", (len(steps) ** 2, len(steps)))
    probe.putdata([(red, green, blue) for blue in steps for green in steps for red in steps])
    moved = ImageCms.applyTransform(probe, transform)
    assert moved is not None
    pairs = zip(probe.tobytes(), moved.tobytes(), strict=True)
    return all(abs(before - after) <= 1 for before, after in pairs)
