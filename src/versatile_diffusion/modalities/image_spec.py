"""Images before their model is loaded: their files, and the options of painting them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from versatile_diffusion.fields import DataOf, Flag
from versatile_diffusion.modalities.spec import Codec, DecodingOptions, ModalitySpec, ShownAs

if TYPE_CHECKING:  # both take long, which commands that only ask need not wait for
    from PIL import Image
    from torch import Tensor

UPLOADED = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Formats of PIL that are decoded whoever sent them; its other decoders are less tried."""


class ImageDecoding(DecodingOptions):
    """How images are painted from their latents."""

    colors_of: Annotated[
        object,
        Field(description="A picture whose colours the outputs take, or a list of them for a batch."),
        DataOf("image"),
        Flag(metavar="FILE"),
    ] = None


class ImageCodec(Codec):
    """Images as PNG files, which hold their record as text chunks. Items are images of PIL."""

    suffixes = (
        *(".png", ".apng", ".jpg", ".jpeg", ".jfif", ".jpe", ".jp2", ".j2k", ".webp", ".gif", ".bmp", ".dib"),
        *(".tif", ".tiff", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".pcx", ".psd", ".sgi", ".avif"),
    )
    suffix = ".png"
    media_type = "image/png"
    shown_as = ShownAs.IMAGE
    keeps_record = True

    def decode(self, content: bytes, most: int | None = None) -> Image.Image:
        """See `Codec.decode`: the image upright, in the colours of sRGB and without metadata; it may be transparent."""
        from versatile_diffusion.modalities.image_files import open_upload

        return open_upload(content, UPLOADED, most)

    def encode(self, item: object, record: Mapping[str, str] | None = None) -> bytes:
        """See `Codec.encode`: a PNG with each entry of the record as a text chunk of its own."""
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        for key, value in (record or {}).items():
            info.add_text(key, value)
        file = io.BytesIO()
        _image(item).save(file, "PNG", pnginfo=info)
        return file.getvalue()

    def values(self, data: object) -> list[Tensor]:
        """See `Codec.values`: uint8 (h w 3) where 8 bits hold an image exactly, its numbers (3 h w) where not."""
        from versatile_diffusion.modalities.images import levels, read_images

        exact = ((image, levels(image)) for image in read_images(data))
        return [image if held is None else held.movedim(0, -1).contiguous() for image, held in exact]

    def restored(self, value: str | Tensor) -> object:
        """See `Codec.restored`: an image of PIL where 8 bits hold it."""
        import torch
        from PIL import Image

        return Image.fromarray(value.numpy()) if not isinstance(value, str) and value.dtype == torch.uint8 else value

    def measure(self, item: object) -> int:
        """See `Codec.measure`: pixels."""
        image = _image(item)
        return image.width * image.height

    def read(self, file: Path) -> Tensor:
        """See `Codec.read`: numbers (3 h w) in [0, 1], of an image in any format that PIL opens."""
        from versatile_diffusion.modalities.images import read_images

        return read_images(file)[0]

    def parse(self, argument: str) -> Tensor:
        """See `Codec.parse`."""
        from versatile_diffusion.modalities.images import read_images

        return read_images(argument)[0]

    def require(self, file: Path) -> None:
        """See `Codec.require`."""
        from versatile_diffusion.modalities.image_files import require_image

        require_image(file)

    def read_record(self, content: bytes) -> dict[str, str]:
        """See `Codec.read_record`: the text chunks of a PNG."""
        from PIL import Image

        from versatile_diffusion.modalities.image_files import readable

        with readable("a picture"):
            image = Image.open(io.BytesIO(content), formats=["PNG"])
            image.load()
        return {key: value for key, value in image.info.items() if isinstance(key, str) and isinstance(value, str)}


def pixels_per_position(autoencoder: Mapping[str, Any]) -> int:
    """Returns how many pixels, in height and in width, one position of a latent stands for.

    Args:
        autoencoder: the arguments or the configuration of AutoencoderKL or `PatchAutoencoderKL`.
    """
    return 2 ** (len(autoencoder["block_out_channels"]) - 1) * autoencoder.get("patch_size", 1)


def _image(item: object) -> Image.Image:
    from PIL import Image

    if not isinstance(item, Image.Image):
        raise TypeError(f"An image of PIL is expected, got {type(item)}.")
    return item


IMAGE = ModalitySpec(
    "image", ImageCodec(), "versatile_diffusion.modalities.image:ImageModality", ImageDecoding, in_pixels=True
)
