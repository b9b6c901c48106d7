"""The commands of docs/evaluation.md run as they stand, on a few drawn pictures; what is made takes few steps."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.training import drawn_data
from versatile_diffusion.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"
COMMANDS = [
    line for block in re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL) for line in block.splitlines()
]
FEW = {"200": "3", "20": "3"}
"""Samples and steps."""

pytestmark = pytest.mark.slow


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    drawn_data.folder(tmp_path / "my-pictures", 4)
    theirs = tmp_path / "their-pictures"
    theirs.mkdir()
    for number in range(3):
        drawn_data.picture(number, (48, 32)).save(theirs / f"{number}.png")
    lines = (json.dumps({"number": number, "text": "a red tent"}) for number in range(3))
    (tmp_path / "their-captions.jsonl").write_text("\n".join(lines))
    for command in COMMANDS:
        program, *words = shlex.split(command)
        assert program == "vd"
        result = CliRunner().invoke(app, [FEW.get(word, word) for word in words] + ["--bootstrap", "3"])
        assert result.exit_code == 0, result.output
    assert {"FID", "CLIP-FID"} & set(json.loads(Path("theirs.json").read_text())["flows"]["text-to-image"]["figures"])
    assert Path("images.png").is_file() and Path("texts.png").is_file()
