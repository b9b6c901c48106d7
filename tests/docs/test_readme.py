"""The README's blocks marked <!-- test --> run as they stand, all but the first command in few steps."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.example_picture import write_picture
from tests.processes import start_vd
from versatile_diffusion import VersatileDiffusionPipeline

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"<!-- test -->\n```(\w+)\n(.*?)```", README.read_text(), flags=re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the picture that the README's commands read."""
    write_picture(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("code", [code for language, code in BLOCKS if language == "python"])
def test_python_blocks_run(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = VersatileDiffusionPipeline.generate

    def short(self: VersatileDiffusionPipeline, *arguments: Any, **options: Any) -> Any:
        return whole(self, *arguments, **{**options, "num_inference_steps": 8})

    monkeypatch.setattr(VersatileDiffusionPipeline, "generate", short)
    names: dict[str, object] = {}
    exec(compile(code, str(README), "exec"), names)
    assert names["picture"].size == names["mixed"].size == (64, 64)  # pyright: ignore[reportAttributeAccessIssue]
    assert all(isinstance(text, str) and text for text in names["texts"] + names["again"])  # pyright: ignore


@pytest.mark.slow
@pytest.mark.parametrize("code", [code for language, code in BLOCKS if language == "bash"])
def test_commands_run(folder: Path, code: str) -> None:
    """The first command of a block is the installed one, given to a shell; the others are forked."""
    vd = shutil.which("vd", path=str(Path(sys.executable).parent))
    assert vd is not None, "vd is not installed beside this Python"
    first, *others = code.strip().splitlines()
    assert first.startswith("vd ")
    subprocess.run(f"{vd} {first.removeprefix('vd ')}", shell=True, check=True, capture_output=True)
    for line in others:
        command, *words = shlex.split(line)
        assert command == "vd"
        ran = start_vd(*words, "--steps", "8")
        assert ran.returncode == 0 and ran.stdout.strip(), ran.stderr
    assert list((folder / "pictures").glob("*.png"))


def test_the_readme_has_blocks_of_both_kinds() -> None:
    assert {language for language, _ in BLOCKS} == {"python", "bash"}
