"""Compiling changes no output, and leaves no block out."""

import json
import subprocess
import sys

import pytest

GRAPHS = 44
"""Most that the bundled model needs: its blocks in all their shapes, with and without remembered keys and values."""


@pytest.mark.slow
def test_every_block_is_one_graph() -> None:
    command = [sys.executable, "-m", "tests.unit.pipeline.compiled_model"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert len(found["errors"]) == 2 and max(found["errors"]) < 1e-4
    assert found["breaks"] == {}
    assert 0 < found["graphs"] <= GRAPHS
