"""The data set of a world that is drawn from a seed, written as files: for `vd train DATA`, and for other trainers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from rich.progress import track

from versatile_diffusion.files import require_same_settings, write_whole
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.worlds.base import WorldSample

METADATA, SETTINGS = "metadata.jsonl", "settings.json"
FOLDER = 1000
"""Images in a folder."""


def write_samples(
    folder: Path, samples: Iterable[WorldSample], count: int, seed: int, also: Sequence[str] = ()
) -> None:
    """Writes images as PNG, and then `metadata.jsonl` with a line of each: its `file_name` and its `text`.

    What is written as well lies beside the image, and its name in a column that is called like its modality:
    `sound_file_name`.

    A build that was interrupted goes on. With more images than before, only the new ones are written.

    Args:
        folder: made if missing.
        samples: the images with their texts, always the same ones in the same order.
        count: how many they are.
        seed: of the samples.
        also: modalities that are written as well, each of which the samples have.

    Raises:
        ValueError: if the folder holds the samples of another seed.
    """
    require_same_settings(folder / SETTINGS, {"seed": seed}, (folder / SETTINGS).exists())
    lines: list[str] = []
    for i, sample in enumerate(track(samples, "drawing", total=count)):
        stem = f"{i // FOLDER:03}/{i:06}"
        line = {"file_name": f"{stem}.png", "text": sample.text}
        _write_missing(folder / line["file_name"], lambda image=sample.image: _png(image))
        for modality in also:
            codec = modality_spec(modality).codec
            line[f"{modality}_file_name"] = f"{stem}{codec.suffix}"
            made = sample.also[modality]
            _write_missing(folder / f"{stem}{codec.suffix}", lambda made=made, codec=codec: codec.encode(made()))
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_whole(folder / METADATA, "".join(lines).encode())


def _write_missing(file: Path, content: Callable[[], bytes]) -> None:
    if not file.exists():
        write_whole(file, content())


def _png(image: UInt8[np.ndarray, "size size 3"]) -> bytes:
    png = BytesIO()
    Image.fromarray(image).save(png, "PNG")
    return png.getvalue()
