import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from . import diffuser_runs

SCRIPT = diffuser_runs.__file__
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.slow
def test_two_processes_leave_the_gradients_of_one_with_twice_the_batch(tmp_path: Path) -> None:
    path = tmp_path / "gradients.safetensors"
    # Without --multi_gpu accelerate starts one process; without a GPU its processes take the CPU.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]
    command = [*launch, "--num_machines=1", "--main_process_port=0", SCRIPT, "save_gradients", str(path), "3"]
    subprocess.run(command, check=True, env={**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": ""})
    two, one = load_file(path), diffuser_runs.gradients(batch_size=6)
    assert two.keys() == one.keys()
    largest = max(float(gradient.abs().max()) for gradient in one.values())
    for name, expected in one.items():  # biases before a normalisation have gradients of nothing but rounding
        torch.testing.assert_close(
            two[name], expected, rtol=1e-5, atol=1e-6 * largest, msg=lambda m, n=name: f"{n}: {m}"
        )
