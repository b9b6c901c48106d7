import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from . import training_runs

pytestmark = pytest.mark.slow

SCRIPT = training_runs.__file__
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, SCRIPT, "train_postcards", str(folder)]
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
    assert len(files) == 4  # diffuser, image, text, oracle
    for file in files:
        assert (whole / file).read_bytes() == (killed / file).read_bytes(), file
    assert (killed / "measurements.json").read_text() == (whole / "measurements.json").read_text()
    card = (whole / "model" / "README.md").read_text()
    assert "vd train postcards" in card and "four_flow" in card and (whole / "model" / "curves.png").exists()


def test_two_processes_leave_the_gradients_of_one_with_twice_the_batch(tmp_path: Path) -> None:
    path = tmp_path / "gradients.safetensors"
    # Without --multi_gpu accelerate starts one process; without a GPU its processes take the CPU.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]
    command = [*launch, "--num_machines=1", "--main_process_port=0", SCRIPT, "save_gradients", str(path), "3"]
    subprocess.run(command, check=True, env={**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": ""})
    two, one = load_file(path), training_runs.gradients(batch_size=6)
    assert two.keys() == one.keys()
    largest = max(float(gradient.abs().max()) for gradient in one.values())
    for name, expected in one.items():  # biases before a normalisation have gradients of nothing but rounding
        torch.testing.assert_close(
            two[name], expected, rtol=1e-5, atol=1e-6 * largest, msg=lambda m, n=name: f"{n}: {m}"
        )
