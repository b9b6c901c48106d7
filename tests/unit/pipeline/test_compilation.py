"""Compiling changes no output, and leaves no block out."""

import json

import pytest

from tests.processes import python, start

GRAPHS = 44
"""Most that the bundled model needs: its blocks in all their shapes, with and without remembered keys and values."""


@pytest.mark.slow
def test_every_block_is_one_graph() -> None:
    compiled = start(python, "-m", "tests.unit.pipeline.compiled_model")
    assert compiled.returncode == 0, compiled.stderr
    found = json.loads(compiled.stdout)
    assert len(found["errors"]) == 2 and max(found["errors"]) < 1e-4
    assert found["breaks"] == {}
    assert 0 < found["graphs"] <= GRAPHS
