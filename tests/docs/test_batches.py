"""The blocks of docs/batches.md run as they stand, in few steps; so does the actor of the example with Ray Data."""

import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.applications.prompt_lists import read_prompts
from versatile_diffusion.cli import app

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "batches.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
COMMANDS = [line for language, code in BLOCKS if language == "bash" for line in code.splitlines()]
CODE = {language: code for language, code in BLOCKS}
RAY = str(ROOT / "examples" / "ray_data.py")

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page reads."""
    monkeypatch.chdir(tmp_path)
    write_prompts()


def write_prompts() -> None:
    """Writes the lists of the page, and the picture that one names, in the folder that is worked in."""
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


def test_the_actor_of_the_ray_example_makes_what_the_command_makes() -> None:
    example = runpy.run_path(RAY)
    rows = example["to_rows"](read_prompts(Path("prompts.jsonl")), 4)
    columns = {name: np.array([row[name] for row in rows], dtype=object) for name in rows[0]}
    made = example["Painter"](dtype="fp32", num_inference_steps=2)(columns)
    for line, seed, png in zip(made["line"], made["seed"], made["png"], strict=True):
        Path(f"line-{line:04}-seed-{seed}.png").write_bytes(png)
    compare_with_the_command()


def compare_with_the_command() -> None:
    """Checks that there are the pictures that `vd batch` makes of the list in 2 steps with seed 4, but for rounding."""
    words = ["prompts.jsonl", "-o", "made", "--steps", "2", "--seed", "4", "--device", "cpu", "--dtype", "fp32"]
    result = CliRunner().invoke(app, ["batch", *words])
    assert result.exit_code == 0, result.output
    names = {path.name for path in Path("made").glob("*.png")}
    assert names == {"line-0001-seed-4.png", "line-0002-seed-12.png", "line-0003-seed-4.png"}
    for name in names:
        one, other = (np.asarray(Image.open(file)).astype(int) for file in (name, Path("made", name)))
        assert np.abs(one - other).max() <= 1
