"""Contact sheets: many small pictures in one grid."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "h w 3"]],
    columns: int,
    *,
    padding: int = 2,
    scale: int = 1,
    background: tuple[int, int, int] = (255, 255, 255),
) -> Image.Image:
    """Lays uint8 (h, w, 3) pictures of one size out in rows of `columns`.

    `scale` enlarges every picture by whole pixels; `padding` is in pixels of the result.
    Raises ValueError for no images, or images of different shapes.
    """
    if not images or len({image.shape for image in images}) != 1:
        raise ValueError("a contact sheet needs at least one image, all of one shape")
    height, width = (scale * side for side in images[0].shape[:2])
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + padding) + padding, rows * (height + padding) + padding), background)
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        tile = Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(tile, (padding + column * (width + padding), padding + row * (height + padding)))
    return sheet
