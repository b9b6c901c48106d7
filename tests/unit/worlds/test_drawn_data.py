import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tests.unit.worlds.postcards.engines import needs_engines
from versatile_diffusion.cli import app
from versatile_diffusion.data.formats import find_format
from versatile_diffusion.data.sample import read_sample
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.sounds import read_sounds
from versatile_diffusion.worlds.postcards.data import Postcards
from versatile_diffusion.worlds.postcards.sound import render_sound


def write(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", "postcards", *map(str, arguments)])


@pytest.fixture
def written(tmp_path: Path) -> Path:
    result = write("--output", tmp_path, "--images", 3, "--seed", 5)
    assert result.exit_code == 0, result.output
    return tmp_path


def lines(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def test_a_world_that_is_drawn_is_written_as_images_with_captions(written: Path) -> None:
    for line, postcard in zip(lines(written), Postcards(5, 3), strict=True):
        assert line["text"] == postcard.caption
        assert np.array_equal(np.asarray(Image.open(written / line["file_name"])), postcard.image)


def test_a_build_goes_on_with_what_is_there(written: Path) -> None:
    first = written / lines(written)[0]["file_name"]
    before = first.stat().st_mtime_ns
    assert write("--output", written, "--images", 4, "--seed", 5).exit_code == 0
    assert len(lines(written)) == 4 and first.stat().st_mtime_ns == before


def test_neither_seeds_nor_sources_are_mixed(written: Path) -> None:
    before = lines(written)
    other = write("--output", written, "--images", 3, "--seed", 6)
    assert other.exit_code == 1 and "seed was 5" in other.stderr and lines(written) == before
    packages = write("--output", written, "--packages", written)
    assert packages.exit_code == 1 and "drawn from a seed, not made from packages" in packages.stderr


@needs_engines
def test_sounds_are_written_beside_images_and_read_for_training(tmp_path: Path) -> None:
    result = write("--output", tmp_path, "--images", 2, "--seed", 5, "--also", "sound")
    assert result.exit_code == 0, result.output
    for line, postcard in zip(lines(tmp_path), Postcards(5, 2), strict=True):
        written = read_sounds(tmp_path / line["sound_file_name"])[0]
        assert np.array_equal(written.samples, render_sound(postcard.scene).samples)
    modalities = {name: modality_spec(name).load()() for name in ("image", "text", "sound")}
    rows: list[Any] = [row["row"] for row in find_format(str(tmp_path)).rows(str(tmp_path))]
    assert [set(read_sample(row, modalities).items) for row in rows] == [set(modalities)] * 2


def test_what_a_world_does_not_have_is_not_written(tmp_path: Path) -> None:
    result = write("--output", tmp_path / "new", "--images", 1, "--also", "smell")
    assert result.exit_code == 1 and "has no smell; it has: sound" in result.stderr and not (tmp_path / "new").exists()
