"""The commands of docs/training.md run as they stand, on a few drawn pictures; training takes few steps."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.unit.checkpoints.folders import save_stable_diffusion
from tests.unit.training import drawn_data
from tests.unit.training.shallow_model import SHALLOW, save_shallow
from tests.unit.training.small_encoders import save_t5
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.checkpoints import Components
from versatile_diffusion.cli import app
from versatile_diffusion.model_presets import tiny
from versatile_diffusion.training.own_data import dry_run
from versatile_diffusion.training.settings.config import read_settings
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.validation import checked

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
COMMANDS = [
    line for block in re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL) for line in block.splitlines()
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stand_ins(session_pipe: VersatileDiffusionPipeline, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Tiny models in the place of those that are on a hub, and small sizes in the place of larger ones."""
    place = tmp_path_factory.mktemp("models")
    held = Components(session_pipe.diffuser, dict(session_pipe.modalities.items()), session_pipe.scheduler)
    save_stable_diffusion(held, place / "stable")
    return {
        "dry": save_shallow(session_pipe, place / "shallow"),  # since counting takes a while
        "shi-labs/versatile-diffusion": str(model),
        "CompVis/stable-diffusion-v1-4": str(place / "stable"),
        "google-t5/t5-base": str(save_t5(place / "t5")),
        "preset:emoji": "preset:tiny",
    }


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_ins: Mapping[str, str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(dry_run.SIZES, dry_run.OFFICIAL, lambda: replace(tiny(), diffuser=SHALLOW))
    drawn_data.folder(tmp_path / "my-pictures", 8)
    drawn_data.many_tars(tmp_path / "shards", 40, 20)
    for command in COMMANDS:
        program, *words = shlex.split(command)
        assert program == "vd"
        short = ["--steps", "2", "--batch-size", "2"]
        few = {"train": short, "distill": short, "text-to-image": ["--steps", "2"]}.get(words[0], [])
        if words[0] in ("train", "distill") and not {"--flows", "--start"} & set(words):
            few += ["--flows", "text-to-image"]  # one stands for all
        if words[0] == "train" and {"--output", "--dry-run"} & set(words) and "--start" not in words:
            few += ["--start", stand_ins["dry" if "--dry-run" in words else "shi-labs/versatile-diffusion"]]
        words = [stand_ins.get(word, re.sub(r"steps=\d+", "steps=2", word)) for word in words]
        result = CliRunner().invoke(app, [*words, *few])
        assert result.exit_code == 0, result.output
    assert Path("samples.png").is_file() and Path("runs", "my-pictures", "index.html").is_file()


def test_the_file_of_settings_is_read(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "run.yaml").write_text(block)
    settings = checked(TrainingSettings, read_settings(tmp_path / "run.yaml"))
    assert settings.four_flow.steps == 20000 and settings.one_flow.learning_rate == 1e-4
