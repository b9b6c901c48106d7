"""Pictures and embeddings as clients send them: bytes, which are never taken for paths or addresses."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


class Part(BaseModel):
    """A file of a multipart request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Annotated[str, Field(description="Name of the part that holds it.", max_length=200)]


class Refused(ValueError):
    """Something that was sent cannot be used; the message is for the client."""


@dataclass
class Uploads:
    """What came with one request.

    Attributes:
        files: bytes by the names that the request uses.
        pixels_left: of all pictures together.
    """

    files: Mapping[str, bytes]
    pixels_left: int

    def content(self, given: str | Part) -> bytes:
        """The bytes of base64 (a data URL, too), or of a file that was sent along.

        Raises:
            Refused: if there is no such file, or it is not base64.
        """
        if not isinstance(given, str):
            if given.file not in self.files:
                raise Refused(f"There is no file {given.file!r} in the request: send it as a part of that name.")
            return self.files[given.file]
        if given.startswith("data:"):
            _, _, given = given.partition(",")
        try:
            return base64.b64decode(given, validate=True)
        except (binascii.Error, ValueError) as error:
            raise Refused(f"Binary data is sent as base64 ({error}); paths and addresses are not read.") from error

    def picture(self, given: str | Part) -> Image.Image:
        """A picture, decoded; see `open_picture`."""
        image = open_picture(self.content(given), self.pixels_left)
        self.pixels_left -= image.width * image.height
        return image

    def tensor(self, given: list[list[float]] | str | Part) -> Tensor:
        """An embedding (1 n d): nested lists (n d), or safetensors of one tensor, (n d) or (1 n d).

        Raises:
            Refused: if it is something else.
        """
        import torch  # takes seconds, which those who send no embedding need not wait for

        try:
            value = torch.tensor(given) if isinstance(given, list) else _safetensors(self.content(given))
        except (ValueError, TypeError, RuntimeError) as error:
            raise Refused(f"An embedding is a rectangle of numbers: {error}") from error
        value = value[None] if value.ndim == 2 else value
        if value.is_floating_point() and value.dtype not in (torch.float16, torch.float32, torch.float64):
            value = value.float()  # which can be checked, and have a checksum
        if value.ndim != 3 or len(value) != 1 or not value.is_floating_point() or not value.isfinite().all():
            raise Refused(f"An embedding has shape (tokens, width) and finite numbers, got {tuple(value.shape)}.")
        return value


def open_picture(content: bytes, most_pixels: int) -> Image.Image:
    """Decodes a picture, upright and without metadata. Its size is checked before its pixels are read.

    Raises:
        Refused: if it is none of the usual formats, damaged, or has more pixels.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > most_pixels:
            raise Refused(
                f"A picture of {image.width} × {image.height} pixels is too large: {most_pixels} pixels are left for "
                "this request."
            )
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
    except Refused:
        raise
    except Image.DecompressionBombError as error:
        raise Refused(f"The picture is too large: {most_pixels} pixels are left for this request.") from error
    except Exception as error:  # whatever a decoder makes of hostile bytes
        raise Refused(f"A picture must be whole, and one of {', '.join(FORMATS)}.") from error
    image.info = {}
    return image


def _safetensors(content: bytes) -> Tensor:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(content)
    except SafetensorError as error:
        raise Refused(f"these are no safetensors ({error}).") from error
    if len(tensors) != 1:
        raise Refused(f"it must be one tensor, got {len(tensors)}.")
    return next(iter(tensors.values()))
