"""All blocks of some pages of docs run as they stand, on the bundled model, in few steps."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.cli import app

DOCS = Path(__file__).parents[2] / "docs"
GPU = "python benchmarks/gpu.py --json gpu.json"
BLOCKS = {
    page: re.findall(r"```(\w+)\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)
    for page in ("conditioning.md", "applications.md", "performance.md")
}
COMMANDS = [
    line
    for blocks in BLOCKS.values()
    for language, code in blocks
    if language == "bash"
    for line in code.splitlines()
    if line != GPU  # tried with a tiny model in test_bench
]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def files_and_few_steps(bundled: VersatileDiffusionPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page reads; and few steps of sampling, also where no option says how many."""
    monkeypatch.chdir(tmp_path)
    for name, color in (("a.png", "red"), ("b.png", "blue"), ("mask.png", "white"), ("picture.png", "green")):
        Image.new("RGB", (64, 64), color).save(name)
    tokens = bundled.encode_context("image", "a.png")
    save_file({"tokens": tokens}, "tokens.safetensors")
    np.save("grey.npy", tokens.numpy())
    np.save("noise.npy", np.zeros((1, 8, 8, 8), np.float32))
    whole = VersatileDiffusionPipeline.generate

    def short(self: VersatileDiffusionPipeline, *arguments: Any, **options: Any) -> Any:
        return whole(self, *arguments, **{**options, "num_inference_steps": 2})

    monkeypatch.setattr(VersatileDiffusionPipeline, "generate", short)


@pytest.mark.parametrize("page", BLOCKS)
def test_the_python_blocks_run(page: str) -> None:
    names: dict[str, Any] = {}
    with torch.no_grad():
        for language, code in BLOCKS[page]:
            if language == "python":
                exec(compile(code, page, "exec"), names)
    assert {"conditioning.md": "stop_early", "applications.md": "picture", "performance.md": "FAST"}[page] in names


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_run(command: str) -> None:
    program, *words = shlex.split(command)
    assert program == "vd"
    result = CliRunner().invoke(app, [*words, "--steps", "2"])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip(), "a command tells what it made"
