from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.unit.worlds.emoji import packages as made_up
from versatile_diffusion.cli import app


def vd(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_vd_data_writes_the_data_set_and_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = made_up.install(tmp_path / "packages", monkeypatch)
    written = vd("data", "emoji", "--output", tmp_path / "data", "--packages", packages, "--images", 4, "--seed", 1)
    assert written.exit_code == 0, written.output
    assert len(list((tmp_path / "data" / "train").rglob("*.png"))) == 4
    shown = vd("data", "show", tmp_path / "data" / "train", "--json")
    assert shown.exit_code == 0 and '"samples": 4' in shown.stdout, shown.output


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    result = vd("data", "emoji", "--output", tmp_path / "data", "--packages", tmp_path)
    assert result.exit_code == 1 and "npm pack emojibase-data@17.0.0" in result.stderr
