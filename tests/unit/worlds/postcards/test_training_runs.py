import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from . import training_runs

pytestmark = pytest.mark.slow

SCRIPT = training_runs.__file__
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, SCRIPT, str(folder)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL)


def kill_at(process: subprocess.Popen[bytes], sign: Path, later: float) -> None:
    while not sign.exists():
        assert process.poll() is None, f"ended before there was {sign}"
        time.sleep(0.01)
    time.sleep(later)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_run_that_is_killed_twice_ends_as_one_that_is_not(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole).wait() == 0
    moment = random.uniform(0, 0.5)
    print(f"killed {moment} s later")  # shown where the test fails
    kill_at(start(killed), killed / "kl" / "step-00000004", later=moment)
    kill_at(start(killed), killed / "optimus" / "step-00000004", later=0)
    assert start(killed).wait() == 0
    files = [path.relative_to(whole) for path in whole.glob("model/**/*.safetensors")]
    assert len(files) == 4  # diffuser, image, text, classifier
    for file in files:
        assert (whole / file).read_bytes() == (killed / file).read_bytes(), file
    assert (killed / "measurements.json").read_text() == (whole / "measurements.json").read_text()
    card = (whole / "model" / "README.md").read_text()
    assert "vd train postcards" in card and "four_flow" in card and (whole / "model" / "curves.png").exists()
