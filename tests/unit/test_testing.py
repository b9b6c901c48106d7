"""What the tests themselves stand on: checks of shapes, and processes that are forked."""

import importlib
import os
import signal
import sys
import time
from pathlib import Path

import jaxtyping
import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from tests import processes, typechecking

CHECKED = jaxtyping.jaxtyped(typechecker=typechecking.typechecker)


@CHECKED
def doubled(x: Float[Tensor, "b d"], wrong: list[bool]) -> Float[Tensor, "b d"]:
    return x[0] if wrong else torch.cat([x[:0], 2 * x])


def test_a_wrong_shape_is_found_after_right_ones() -> None:
    for _ in range(3):
        doubled(torch.ones(2, 3), [])
    with pytest.raises(TypeCheckError, match="parameters"):
        doubled(torch.ones(2), [])
    with pytest.raises(TypeCheckError, match="parameters"):
        doubled(torch.ones(2, 3).long(), [])


def test_a_wrong_result_is_found_after_right_ones() -> None:
    wrong: list[bool] = [False]

    @CHECKED
    def sometimes(x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        return x[0] if wrong[0] else x

    for _ in range(3):
        sometimes(torch.ones(2, 3))
    wrong[0] = True
    with pytest.raises(TypeCheckError, match="return"):
        sometimes(torch.ones(2, 3))


def test_the_package_is_checked() -> None:
    from versatile_diffusion.sampling.sampler import draw_noise

    with pytest.raises(TypeCheckError):
        draw_noise("a shape", 3)  # pyright: ignore - that is what is to be found


@pytest.mark.parametrize("module", processes.IMPORTED)
def test_what_is_imported_ahead_is_there(module: str) -> None:
    importlib.import_module(module)


def say(words: str, code: int) -> None:
    print(words, os.environ["SAID"], Path.cwd(), "torch" in sys.modules)
    print("to the other", file=sys.stderr)
    sys.exit(code)


def wait_for_long() -> None:
    time.sleep(1000)


def test_a_process_tells_all_that_a_new_python_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = processes.start(say, "spoken", 3, environment={"SAID": "aloud"})
    assert ran.returncode == 3 and ran.stderr == "to the other\n"
    assert ran.stdout == f"spoken aloud {tmp_path} True\n"
    waiting = processes.start(wait_for_long)
    assert waiting.is_running
    waiting.kill()
    assert waiting.returncode == -signal.SIGKILL and not waiting.is_running
    done = processes.forked_run([sys.executable, "-m", "versatile_diffusion.cli", "--help"])
    assert done.returncode == 0 and "text-to-image" in done.stdout
