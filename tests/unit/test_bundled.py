"""Which model is taken where none is named."""

import os
import subprocess
import sys

import pytest

from versatile_diffusion.bundled import bundled_weights, world_names

ASKED = "from versatile_diffusion.bundled import DEFAULT_MODEL; print(DEFAULT_MODEL)"


def default_model(variables: dict[str, str]) -> str:
    others = {name: value for name, value in os.environ.items() if name != "VD_MODEL"}
    done = subprocess.run([sys.executable, "-c", ASKED], env=others | variables, capture_output=True, check=True)
    return done.stdout.decode().strip()


def test_the_default_model_is_a_bundled_one() -> None:
    name = default_model({})
    assert name in world_names() and bundled_weights(name)
    assert default_model({"VD_MODEL": ""}) == name


@pytest.mark.parametrize("name", ["/models/mine", "someone/something"])
def test_the_environment_names_another_default(name: str) -> None:
    assert default_model({"VD_MODEL": name}) == name
