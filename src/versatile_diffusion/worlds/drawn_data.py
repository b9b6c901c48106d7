"""The data set of a world that is drawn from a seed, written as files: for `vd train DATA`, and for other trainers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from PIL import Image
from rich.progress import track

from versatile_diffusion.files import require_same_settings, write_whole
from versatile_diffusion.worlds.base import WorldSample

METADATA, SETTINGS = "metadata.jsonl", "settings.json"
FOLDER = 1000
"""Images in a folder."""


def write_samples(folder: Path, samples: Iterable[WorldSample], count: int, seed: int) -> None:
    """Writes images as PNG, and then `metadata.jsonl` with a line of each: its `file_name` and its `text`.

    A build that was interrupted goes on. With more images than before, only the new ones are written.

    Args:
        folder: made if missing.
        samples: the images with their texts, always the same ones in the same order.
        count: how many they are.
        seed: of the samples.

    Raises:
        ValueError: if the folder holds the samples of another seed.
    """
    require_same_settings(folder / SETTINGS, {"seed": seed}, (folder / SETTINGS).exists())
    lines: list[str] = []
    for i, sample in enumerate(track(samples, "drawing", total=count)):
        name = f"{i // FOLDER:03}/{i:06}.png"
        if not (folder / name).exists():
            png = BytesIO()
            Image.fromarray(sample.image).save(png, "PNG")
            write_whole(folder / name, png.getvalue())
        lines.append(json.dumps({"file_name": name, "text": sample.text}, ensure_ascii=False) + "\n")
    write_whole(folder / METADATA, "".join(lines).encode())
