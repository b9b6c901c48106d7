"""All blocks of docs/adapters.md run as they stand, on the bundled model; the commands take few steps."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.cli import app
from versatile_diffusion.pipeline.lora import add_lora, save_lora

PAGE = Path(__file__).parents[2] / "docs" / "adapters.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page reads: two pictures, and a LoRA beside the one that it trains."""
    monkeypatch.chdir(tmp_path)
    for name, color in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (64, 64), color).save(name)
    pipe = VersatileDiffusionPipeline.from_pretrained("postcards", flows=["text-to-image"])
    add_lora(pipe.diffuser)
    save_lora(pipe.diffuser, "another")


def test_the_blocks_run(bundled: VersatileDiffusionPipeline) -> None:
    names: dict[str, Any] = {}
    for language, code in BLOCKS:
        if language == "python":
            exec(compile(code, str(PAGE), "exec"), names)
        else:
            for command in code.splitlines():
                program, *words = shlex.split(command)
                assert program == "vd"
                result = CliRunner().invoke(app, [*words, "--steps", "2"])
                assert result.exit_code == 0, result.output
    assert [language for language, _ in BLOCKS] == ["python", "python", "bash"]
    assert Path("my-lora", "lora.safetensors").is_file()
    assert len(list(Path().rglob("*.png"))) > 2, "the command makes a picture beside the two that are given"
    assert not names["pipe"].adapters
    for key, tensor in bundled.diffuser.state_dict().items():
        torch.testing.assert_close(names["pipe"].diffuser.state_dict()[key], tensor, atol=1e-5, rtol=0)
