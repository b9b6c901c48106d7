"""Images that several programs learn from at once are read into their array once."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from versatile_diffusion.training.stages import captioned_folder
from versatile_diffusion.training.stages.captioned_folder import CaptionedFolder

COUNT = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "images"
    place.mkdir()
    lines = [{"file_name": f"{i}.png", "texts": ["a red tent"]} for i in range(COUNT)]
    for i, line in enumerate(lines):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(place / line["file_name"])
    (place / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return place


def test_who_comes_second_waits_and_reads_what_the_first_wrote(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    pixels = vars(captioned_folder)["_pixels"]
    monkeypatch.setattr(captioned_folder, "_pixels", lambda file: (read.append(file), pixels(file))[1])
    both = [CaptionedFolder(folder, tmp_path / "kept") for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda each: each.images, both)
    assert np.array_equal(first, second) and first[:, 0, 0, 0].tolist() == list(range(COUNT))
    assert len(read) == COUNT + 1  # one more tells how large they are


def test_what_was_left_unfinished_is_written_anew(folder: Path, tmp_path: Path) -> None:
    whole = CaptionedFolder(folder, tmp_path / "kept").images
    (written,) = (tmp_path / "kept").glob("*.npy")
    written.replace(written.with_suffix(".unfinished"))
    written.with_suffix(".unfinished").write_bytes(b"half")
    assert np.array_equal(CaptionedFolder(folder, tmp_path / "kept").images, whole)
