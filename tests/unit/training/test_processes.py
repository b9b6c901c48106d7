"""Training in several processes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.processes import together

from . import diffuser_runs


@pytest.mark.slow
def test_two_processes_leave_the_gradients_of_one_with_twice_the_batch(tmp_path: Path) -> None:
    path = tmp_path / "gradients.safetensors"
    for process in together(diffuser_runs.save_gradients, str(path), "3"):
        assert process.returncode == 0, process.stderr
    two, one = load_file(path), diffuser_runs.gradients(batch_size=6)
    assert two.keys() == one.keys()
    largest = max(float(gradient.abs().max()) for gradient in one.values())
    for name, expected in one.items():  # biases before a normalisation have gradients of nothing but rounding
        torch.testing.assert_close(
            two[name], expected, rtol=1e-5, atol=1e-6 * largest, msg=lambda m, n=name: f"{n}: {m}"
        )
