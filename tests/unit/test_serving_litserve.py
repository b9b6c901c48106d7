"""LitServe spreads requests over two workers."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.unit.test_cli_serve import free_port
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.serving.plain import answers, read

EXAMPLE = Path(__file__).parents[2] / "examples" / "serve_litserve.py"
ASKED: dict[str, Any] = {"to": "image", "contexts": [{"modality": "text", "data": "a red tent"}], "seed": 1}
ASKED |= {"num_inference_steps": 2}


def test_requests_of_any_kinds_are_answered(pipe: VersatileDiffusionPipeline) -> None:
    bodies = [ASKED, ASKED | {"to": "text"}, ASKED | {"seed": 2}, ASKED | {"guidance_interval": [0.9, 0.1]}]
    image, text, other, wrong = answers(pipe, [read(body, "tiny") for body in bodies])
    assert image["outputs"][0]["image"] != other["outputs"][0]["image"]
    assert isinstance(text["outputs"][0]["text"], str) and "guidance_interval" in wrong["error"]["message"]
    for unusable in ({}, [], ASKED | {"num_outputs": 9}, ASKED | {"start": "/etc/passwd"}):
        with pytest.raises(ValueError):
            read(unusable, "tiny")


@pytest.mark.slow
def test_two_workers_serve(pipe: VersatileDiffusionPipeline, tmp_path: Path) -> None:
    pytest.importorskip("litserve")
    pipe.save_pretrained(tmp_path / "tiny")
    port = free_port()
    options = ["--model", str(tmp_path / "tiny"), "--port", str(port), "--workers", "2", "--accelerator", "cpu"]
    process = subprocess.Popen([sys.executable, str(EXAMPLE), *options], env=os.environ, cwd=tmp_path)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=240) as client:
            while not is_ready(client):
                assert process.poll() is None
                time.sleep(0.2)
            bodies = [ASKED | {"seed": seed} for seed in range(8)]
            with ThreadPoolExecutor(8) as threads:
                found = list(threads.map(lambda body: client.post("/predict", json=body), bodies))
            assert {response.status_code for response in found} == {200}
            assert [response.json()["outputs"][0]["seed"] for response in found] == list(range(8))
            assert client.post("/predict", json={}).status_code == 422
    finally:
        family = [*psutil.Process(process.pid).children(recursive=True), process]
        for member in family:
            member.kill()


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.ConnectError:
        return False
