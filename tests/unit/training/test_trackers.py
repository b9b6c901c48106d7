"""Trackers: what they are told, and what is said where one is not installed."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from versatile_diffusion.training.loop import trackers
from versatile_diffusion.training.loop.metric_logger import MetricLogger
from versatile_diffusion.training.loop.trackers import Tracking, run_title
from versatile_diffusion.training.settings.choices import TrackerName
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.validation import checked


class Told:
    """Stands for wandb or trackio: keeps what it is told."""

    def __init__(self) -> None:
        self.begun: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.done = False

    def init(self, **options: Any) -> "Told":
        self.begun = options
        return self

    def log(self, values: dict[str, Any], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.done = True


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Told]:
    """Both, as modules."""
    found: dict[str, Told] = {}
    for name in ("wandb", "trackio"):
        module: Any = ModuleType(name)
        found[name] = Told()
        module.init = found[name].init
        module.Image = lambda image: ("image", image)
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setitem(trackers._INSTALLED, TrackerName(name), lambda: True)
    return found


def test_all_are_told_the_same(installed: dict[str, Told], tmp_path: Path) -> None:
    names = (TrackerName.TENSORBOARD, TrackerName.WANDB, TrackerName.TRACKIO)
    logger = MetricLogger(tmp_path, Tracking(names, "run-1", {"steps": 3}), main=True)
    with logger.after(0):
        logger.write(1, {"seconds": 2.0}, {"text-to-image": 0.5})
        logger.show(1, {"text-to-image": torch.zeros(3, 4, 6), "image-to-text": "a → b"})
    for name, told in installed.items():
        assert told.begun["project"] == "versatile-diffusion" and told.begun["name"] == "run-1", name
        assert told.begun["config"] == {"steps": 3} and told.done
        assert (1, {"seconds": 2.0, "loss/text-to-image": 0.5}) in told.logged
        assert (1, {"image-to-text": "a → b"}) in told.logged
        [image] = [values["text-to-image"] for _, values in told.logged if "text-to-image" in values]
        kind, shown = image[0] if isinstance(image, list) else image
        assert kind == "image" and (getattr(shown, "size", None) == (6, 4) or shown.shape == (4, 6, 3))
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_none_follow(tmp_path: Path) -> None:
    logger = MetricLogger(tmp_path, Tracking((TrackerName.NONE,)), main=True)
    with logger.after(0):
        assert not logger.shows
        logger.write(1, {"seconds": 2.0}, {"a": 0.5})
    assert [file.name for file in tmp_path.iterdir()] == ["log.jsonl"]


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in trackers._INSTALLED:
        monkeypatch.setitem(trackers._INSTALLED, name, lambda: False)
    for name, extra in (
        (TrackerName.WANDB, "wandb"),
        (TrackerName.TRACKIO, "trackio"),
        (TrackerName.TENSORBOARD, "train"),
    ):
        with pytest.raises(ImportError, match=rf"--log-with {name} needs {name}: pip install .*\[{extra}\]"):
            Tracking((name,)).require()
    Tracking((TrackerName.NONE,)).require()


def test_a_run_keeps_its_title(tmp_path: Path) -> None:
    title = run_title(tmp_path / "my run")
    assert title == run_title(tmp_path / "my run") != run_title(tmp_path / "other" / "my run")
    assert title.startswith("my-run-")


def test_none_and_some_exclude_each_other() -> None:
    settings: dict[str, object] = {"data": "x", "log_with": ["wandb", "trackio", "wandb"]}
    assert checked(TrainingSettings, settings).log_with == (TrackerName.WANDB, TrackerName.TRACKIO)
    with pytest.raises(ValueError, match="log_with is none or some"):
        checked(TrainingSettings, {"data": "x", "log_with": ["none", "wandb"]})
