"""The commands of docs/training.md run as they stand, on a few drawn pictures; training takes few steps."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.training import drawn_data
from versatile_diffusion.cli import app
from versatile_diffusion.model_presets import tiny
from versatile_diffusion.training import dry_run

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
COMMANDS = [
    line for block in re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL) for line in block.splitlines()
]
OFFICIAL = "shi-labs/versatile-diffusion"

pytestmark = pytest.mark.slow


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(dry_run.SIZES, dry_run.OFFICIAL, tiny)  # which takes long to be counted
    drawn_data.folder(tmp_path / "my-pictures", 8)
    for command in COMMANDS:
        program, *words = shlex.split(command)
        assert program == "vd"
        few = {"train": ["--steps", "2", "--batch-size", "2"], "text-to-image": ["--steps", "2"]}.get(words[0], [])
        result = CliRunner().invoke(app, [postcards(word) for word in words] + few)
        assert result.exit_code == 0, result.output
    assert Path("samples.png").is_file() and Path("runs", "my-pictures", "index.html").is_file()


def postcards(word: str) -> str:
    """The bundled model in the place of the official one, which is on a hub, in a run of its own."""
    return "postcards" if word == OFFICIAL else word
