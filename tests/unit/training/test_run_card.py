"""The parts of a run's model card, and how what was trained goes to the hub."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from tests.unit.training import drawn_data
from versatile_diffusion.cli import app
from versatile_diffusion.training.report import publishing
from versatile_diffusion.training.report.publishing import publish, require_hub
from versatile_diffusion.training.report.run_card import base_licence, data_licences, run_command
from versatile_diffusion.training.settings.config import read_settings
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.validation import checked


class FakeHub:
    """Stands for the hub's interface."""

    def __init__(self) -> None:
        self.uploaded: list[tuple[str, list[str]]] = []
        self.fails: Exception | None = None

    def __call__(self) -> "FakeHub":
        return self

    def whoami(self) -> dict[str, str]:
        if self.fails is not None:
            raise self.fails
        return {"name": "someone"}

    def create_repo(self, name: str, exist_ok: bool) -> str:
        assert exist_ok
        return f"https://hub/{name}"

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        if self.fails is not None:
            raise self.fails
        self.uploaded.append((repo_id, sorted(file.name for file in folder_path.iterdir())))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    found = FakeHub()
    monkeypatch.setattr(publishing, "HfApi", found)
    monkeypatch.setattr(publishing, "get_token", lambda: "hf_token")
    monkeypatch.setattr(publishing, "is_offline_mode", lambda: False)
    return found


def test_a_folder_is_uploaded(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A card")
    require_hub("someone/tents")
    assert publish(tmp_path, "someone/tents") == "https://hub/someone/tents"
    assert hub.uploaded == [("someone/tents", ["README.md"])]


def test_what_is_in_the_way_is_named_before_anything_is_trained(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="a name such as owner/name"):
        require_hub("not a name")
    hub.fails = httpx.ConnectError("no route")
    with pytest.raises(OSError, match="cannot be reached"):
        require_hub("someone/tents")
    with pytest.raises(OSError, match="give the same command again"):
        publish(tmp_path, "someone/tents")
    monkeypatch.setattr(publishing, "get_token", lambda: None)
    with pytest.raises(ValueError, match="hf auth login"):
        require_hub("someone/tents")
    monkeypatch.setattr(publishing, "is_offline_mode", lambda: True)
    source = drawn_data.folder(tmp_path / "data", 1)
    told = CliRunner().invoke(app, ["train", source, "--push-to-hub", "someone/tents", "-o", str(tmp_path / "run")])
    assert told.exit_code == 1 and "HF_HUB_OFFLINE" in told.output
    assert not (tmp_path / "run").exists()


def test_the_command_holds_what_differs_from_the_defaults() -> None:
    values: dict[str, Any] = {"data": "my pictures", "steps": 7, "checkpointing": True, "min_snr": None}
    settings = checked(TrainingSettings, {**values, "flows": ("text-to-image",), "log_with": ("wandb", "trackio")})
    command = run_command(settings, Path("runs/a"))
    assert command[:5] == ["vd", "train", "my pictures", "--output", "runs/a"]
    assert " ".join(command[5:]) == (
        "--steps 7 --set min_snr=none --checkpointing --flows text-to-image --log-with wandb trackio"
    )


def test_the_command_gives_the_same_settings_back(tmp_path: Path) -> None:
    values: dict[str, Any] = {"data": "my pictures", "start": "preset:tiny", "context_dropout": {"text": 0.2}}
    values |= {"kl": {"steps": 9}, "one_flow": {"flows": ("image-variation",), "learning_rate": 1e-4}, "zero_snr": True}
    settings = checked(TrainingSettings, {**values, "prediction_type": "sample", "ema": "none"})
    _, *words = run_command(settings, tmp_path / "run")
    done = CliRunner().invoke(app, [*words, "--save-config", str(tmp_path / "run.yaml")])
    assert done.exit_code == 0, done.output
    assert checked(TrainingSettings, read_settings(tmp_path / "run.yaml")) == settings


def test_licences_are_those_that_are_named(tmp_path: Path) -> None:
    assert base_licence("postcards") == "apache-2.0"
    assert base_licence("nobody/nothing") is None and base_licence(str(tmp_path)) is None
    source = Path(drawn_data.jsonl(tmp_path / "data", 3))
    lines = [json.loads(line) for line in (source / "metadata.jsonl").read_text().splitlines()]
    lines[0]["license"], lines[1]["license"], lines[2]["license"] = "CC0", "CC0", "CC-BY-4.0"
    (source / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (source / "README.md").write_text("---\nlicense: cc-by-sa-4.0\n---\n\nPictures.\n")
    assert data_licences(str(source)) == {"cc-by-sa-4.0, of all by its card": 1, "CC0": 2, "CC-BY-4.0": 1}
