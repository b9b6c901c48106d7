"""The blocks of docs/batches.md run as they stand, in few steps."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.cli import app

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "batches.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
COMMANDS = [line for language, code in BLOCKS if language == "bash" for line in code.splitlines()]
CODE = {language: code for language, code in BLOCKS}

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page reads: lists, and the picture that one names."""
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("a red tent in the snow\na tree at night\n")
    Path("prompts.jsonl").write_text(CODE["json"])
    Path("photos").mkdir()
    Image.new("RGB", (64, 64), "red").save("photos/tent.png")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_run(command: str) -> None:
    program, *words = shlex.split(command)
    assert program == "vd"
    result = CliRunner().invoke(app, [*words, "--steps", "2"])
    assert result.exit_code == 0, result.output


def test_the_python_block_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = VersatileDiffusionPipeline.generate

    def short(self: VersatileDiffusionPipeline, *arguments: Any, **options: Any) -> Any:
        return whole(self, *arguments, **{**options, "num_inference_steps": 2})

    monkeypatch.setattr(VersatileDiffusionPipeline, "generate", short)
    exec(compile(CODE["python"], str(PAGE), "exec"), {})
    assert {path.name for path in Path().glob("*.png")} == {"1-0.png", "2-12.png", "3-0.png"}
