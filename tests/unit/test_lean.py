import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from versatile_diffusion import lean

NEEDLESS = (
    "diffusers.models.transformers.transformer_flux",
    "diffusers.models.unets.unet_2d_condition",
    "matplotlib",
    "pandas",
    "peft",
    "scipy.integrate._quadrature",
    "scipy.stats._stats_py",
    "sklearn",
    "sympy",
    "torch._dynamo",
    "torch._inductor",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torchao",
)
"""What a picture takes none of."""


def test_a_picture_takes_nothing_that_is_not_needed(tmp_path: Path) -> None:
    code = (
        "import sys; from versatile_diffusion.cli import main\n"
        "try: main()\n"
        f"finally: print(sorted(set({NEEDLESS}) & set(sys.modules)))"
    )
    command = ["text-to-image", "a red tent", "--steps", "1", "--output", str(tmp_path / "tent.png")]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "tent.png").exists()


def test_what_is_put_off_is_there_when_it_is_asked_for() -> None:
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    assert isinstance(import_module("diffusers.models.transformers").SD3Transformer2DModel, type)
    assert isinstance(import_module("diffusers.models.unets").UNet2DConditionModel, type)
    assert isinstance(import_module("transformers.models").clip, ModuleType)
    scheduler = DPMSolverMultistepScheduler(use_beta_sigmas=True)
    scheduler.set_timesteps(5)
    assert len(scheduler.timesteps) == 5


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    folder = tmp_path / "lean_example"
    folder.mkdir()
    (folder / "__init__.py").write_text("from lean_example import heavy\nnumber = heavy.number + 1\n")
    (folder / "heavy.py").write_text("number = 41\n")
    (folder / "light.py").write_text("word = 'light'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(lean, "BARE", frozenset({"lean_example"}))
    yield "lean_example"
    for name in [name for name in sys.modules if name.startswith("lean_example")]:
        del sys.modules[name]


def test_a_bare_package_runs_when_more_than_a_submodule_is_asked_for(package: str) -> None:
    assert import_module(f"{package}.light").word == "light"
    assert f"{package}.heavy" not in sys.modules
    assert import_module(package).number == 42
    assert import_module(package).heavy is sys.modules[f"{package}.heavy"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = import_module(package).nothing


def test_a_bare_package_may_put_another_module_in_its_place(package: str, tmp_path: Path) -> None:
    (tmp_path / package / "__init__.py").write_text(
        "import sys, types\nother = types.ModuleType(__name__)\nother.number = 7\nsys.modules[__name__] = other\n"
    )
    bare = import_module(package)
    assert bare.number == 7
    assert import_module(package).number == 7
    with pytest.raises(AttributeError):
        _ = bare.nothing


def test_it_is_installed_once() -> None:
    lean.install()
    assert sum(isinstance(finder, lean.LeanFinder) for finder in sys.meta_path) == 1
