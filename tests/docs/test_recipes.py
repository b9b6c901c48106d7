"""The blocks of docs/recipes.md marked <!-- test --> run as they stand, one after the other, in few steps."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.example_picture import write_picture
from versatile_diffusion.cli import app
from versatile_diffusion.provenance.record import CHUNK
from versatile_diffusion.provenance.stored_record import MOST_EMBEDDED

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
BLOCKS = re.findall(r"<!-- test -->\n```(\w+)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


@pytest.mark.slow
def test_the_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    told = ""
    for language, code in BLOCKS:
        if language == "python":
            exec(compile(code, str(PAGE), "exec"), names)
            continue
        for line in code.strip().splitlines():
            words = shlex.split(line, comments=True)[1:]
            made = CliRunner().invoke(app, [*words, *(["--steps", "2"] if words[0] == "edit" else [])])
            assert made.exit_code == 0, made.output
            told = made.stderr
    assert "The same picture, pixel for pixel." in told
    assert (np.asarray(names["again"]) == np.asarray(names["before"])).all()
    assert [language for language, _ in BLOCKS] == ["bash", "python"]


def test_the_page_gives_the_limit_of_the_code() -> None:
    assert f"{MOST_EMBEDDED // 2**20} MiB together" in PAGE.read_text()
    assert f"one called `{CHUNK}`" in PAGE.read_text()
