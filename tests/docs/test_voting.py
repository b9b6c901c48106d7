"""docs/voting.md: its first command runs as it stands, the others are those of `vd`."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from versatile_diffusion.cli import app
from versatile_diffusion.voting.settings import KEYS
from versatile_diffusion.voting.study import Study

PAGE = (Path(__file__).parents[2] / "docs" / "voting.md").read_text()
(COMMAND,) = re.findall(r"<!-- test -->\n```bash\nvd (.*?)\n```", PAGE)


@pytest.mark.slow
def test_the_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("a red tent in the snow\n")
    result = CliRunner().invoke(app, shlex.split(COMMAND))
    assert result.exit_code == 0, result.output
    study = Study(Path("study"))
    assert len(study.pairs) == 1
    study.close()


def test_all_keys_are_listed() -> None:
    assert all(f"`{key}`" in PAGE for key in KEYS)
