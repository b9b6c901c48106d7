"""Draws a set of emoji as a folder of pictures with captions, as `vd train` reads it.

npm pack @iconify-json/twemoji@1.2.5
python examples/emoji_folder.py iconify-json-twemoji-1.2.5.tgz my-emoji
vd train my-emoji
"""

from __future__ import annotations

import argparse
import tarfile
from pathlib import Path

from PIL import Image
from pydantic import BaseModel

from versatile_diffusion.worlds.emoji.data.artwork import IconSet

CATEGORIES = ("Animals & Nature", "Food & Drink", "Travel & Places", "Objects")


class Metadata(BaseModel):
    """The names of a set's drawings, by category."""

    categories: dict[str, list[str]]


def main() -> None:
    """A PNG on white for each drawing, and beside it its name in a .txt."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="what npm pack wrote")
    parser.add_argument("output", type=Path, help="the folder to write")
    parser.add_argument("--number", type=int, default=300, help="of pictures")
    parser.add_argument("--size", type=int, default=128, help="of a side, in pixels")
    options = parser.parse_args()
    with tarfile.open(options.package) as package:
        icons = IconSet.model_validate_json(_read(package, "icons.json"))
        metadata = Metadata.model_validate_json(_read(package, "metadata.json"))
    names = [name for category in CATEGORIES for name in metadata.categories[category]]
    options.output.mkdir(parents=True, exist_ok=True)
    for name in names[:: max(1, len(names) // options.number)][: options.number]:
        artwork = icons.artwork(name)
        if artwork is not None:
            drawing = Image.fromarray(artwork.draw(options.size))
            page = Image.new("RGBA", drawing.size, "white")
            Image.alpha_composite(page, drawing).convert("RGB").save(options.output / f"{name}.png")
            (options.output / f"{name}.txt").write_text(f"a {name.replace('-', ' ')}\n")


def _read(package: tarfile.TarFile, name: str) -> bytes:
    file = package.extractfile(f"package/{name}")
    assert file is not None
    return file.read()


if __name__ == "__main__":
    main()
