import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from versatile_diffusion.cli import app
from versatile_diffusion.worlds.postcards.data import Postcards


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
