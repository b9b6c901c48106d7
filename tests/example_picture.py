"""A picture that the bundled model knows, as a file that the commands of the documentation read."""

from pathlib import Path

from PIL import Image

from versatile_diffusion.bundled import DEFAULT_MODEL
from versatile_diffusion.worlds.base import ExampleImage
from versatile_diffusion.worlds.registry import get_world


def write_picture(file: Path) -> None:
    """Writes the first example of the default world."""
    image = get_world(DEFAULT_MODEL).examples("image-to-text")[0].values["picture"]
    assert isinstance(image, ExampleImage)
    Image.fromarray(image.draw(256)).save(file)
