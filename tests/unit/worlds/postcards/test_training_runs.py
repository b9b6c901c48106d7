"""Training in a process that is killed."""

import random
import signal
import time
from pathlib import Path

import pytest

from tests.processes import Running, start

from . import training_runs

pytestmark = pytest.mark.slow


def train(folder: Path) -> Running:
    return start(training_runs.train_postcards, str(folder))


def kill_at(running: Running, sign: Path, later: float) -> None:
    while not sign.exists():
        assert running.is_running, f"ended before there was {sign}: {running.stderr}"
        time.sleep(0.01)
    time.sleep(later)
    running.kill()
    assert running.returncode == -signal.SIGKILL


def test_a_run_that_is_killed_twice_ends_as_one_that_is_not(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    first = train(whole)
    assert first.returncode == 0, first.stderr
    moment = random.uniform(0, 0.5)
    print(f"killed {moment} s later")  # shown where the test fails
    kill_at(train(killed), killed / "kl" / "step-00000004", later=moment)
    kill_at(train(killed), killed / "optimus" / "step-00000004", later=0)
    last = train(killed)
    assert last.returncode == 0, last.stderr
    files = [path.relative_to(whole) for path in whole.glob("model/**/*.safetensors")]
    assert len(files) == 4  # diffuser, image, text, classifier
    for file in files:
        assert (whole / file).read_bytes() == (killed / file).read_bytes(), file
    assert (killed / "measurements.json").read_text() == (whole / "measurements.json").read_text()
    card = (whole / "model" / "README.md").read_text()
    assert "vd train postcards" in card and "four_flow" in card and (whole / "model" / "curves.png").exists()
