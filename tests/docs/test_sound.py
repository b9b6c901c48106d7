"""docs/sound.md: its lines run as they stand, on a model of random weights."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from tests.unit.checkpoints.test_sound_sources import folders  # noqa: F401
from tests.unit.modalities.small_sound import sine
from tests.unit.test_sound import nine, saved  # noqa: F401
from tests.unit.worlds.postcards.engines import needs_engines
from versatile_diffusion.cli import app
from versatile_diffusion.model_presets import tiny_sound, vd_sound, vd_sound_codi, vd_sound_hifi
from versatile_diffusion.training.own_data.named_presets import preset_names

PAGE = (Path(__file__).parents[2] / "docs" / "sound.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, flags=re.DOTALL)
MAKING = [line for line in BLOCKS[0][1].splitlines() if line.startswith("vd ")]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def given(
    saved: Path,  # noqa: F811
    folders: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("MODEL").symlink_to(saved)
    Path("audioldm2").symlink_to(folders["audioldm2"])
    sine(rate=16000).save("rain.wav")
    sine(rate=16000).save("rain.flac")
    Image.new("RGB", (32, 32), "teal").save("picture.png")


def test_the_commands_run() -> None:
    for line in MAKING:
        _, *words = shlex.split(line, comments=True)
        steps = [] if words[0] == "replay" else ["--steps", "2"]
        result = CliRunner().invoke(app, [*words, *steps])
        assert result.exit_code == 0, (line, result.output)
    assert "The same, value for value." in result.stderr  # pyright: ignore[reportPossiblyUnboundVariable]


def test_the_python_blocks_run() -> None:
    names: dict[str, Any] = {}
    absent = ["client"] + ["postcards.sound"] * needs_engines.args[0]
    for language, code in BLOCKS:
        if language == "python" and not any(word in code for word in absent):
            with torch.no_grad():
                exec(compile(code, "sound.md", "exec"), names)
    assert names["mixed"].rate == 2000 and names["again"].seconds == 2 and Path("back.wav").exists()


def test_presets_are_told() -> None:
    for preset in (vd_sound, vd_sound_codi, vd_sound_hifi):
        name = preset.__name__.replace("_", "-")
        assert f"`{name}`" in PAGE and name in preset_names()
    assert tiny_sound().sound.seconds == 1
