"""The blocks of docs/server.md marked <!-- test --> run as they stand, against a server of the bundled model."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.example_picture import write_picture
from tests.unit.serving.running import listening
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.limits import EngineLimits
from versatile_diffusion.engine.workers import LocalWorker
from versatile_diffusion.serving.app import build_app
from versatile_diffusion.serving.limits import Limits

PAGE = Path(__file__).parents[2] / "docs" / "server.md"
TEXT = PAGE.read_text()
BLOCKS = re.findall(r"<!-- test -->\n```(\w+)\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.slow
def test_the_blocks_run(bundled: VersatileDiffusionPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    with listening(build_app(Engine(LocalWorker({"postcards": bundled})))) as address:
        names: dict[str, Any] = {}
        for language, code in BLOCKS:
            code = code.replace("http://127.0.0.1:8000", address)
            if language == "python":
                exec(compile(code, str(PAGE), "exec"), names)
                continue
            for command in re.split(r"\n(?=curl)", code):
                answer = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=120).stdout
                assert '"status":"succeeded"' in answer, answer
    assert Image.open("mixed.png").info["model"] == "postcards"
    assert [len(names[name].data) for name in ("made", "like", "edited")] == [2, 1, 1]
    assert len(BLOCKS) == 3


def test_the_limits_are_those_of_the_code() -> None:
    limits, engine = Limits(), EngineLimits()
    for line in (
        f"(`--queue`) | {engine.queue} |",
        f"(`--timeout`) | {engine.timeout:g} s |",
        f"(`--concurrency`) | {limits.rate}, {limits.concurrency} |",
        f"| {limits.outputs}, {limits.steps}, {limits.contexts}, {limits.characters:,} |",
        f"together where resampled for an answer | {limits.input_pixels:,}, and {limits.answer_pixels:,} |",
        f"| {limits.body // 2**20} MiB |",
    ):
        assert line in TEXT
    assert limits.pixels is None and "| `--pixels` of an output | what its model makes well |" in TEXT
    assert (engine.keep_jobs, engine.keep_bytes, engine.keep_seconds) == (256, 256 * 2**20, 600)
