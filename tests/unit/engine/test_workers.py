"""LitServe and Ray Serve: both workers answer, and make what one makes; and so does `vd batch` with Ray Data."""

import base64
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.processes import python, start
from tests.unit.cli.test_serve import free_port
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.cli import app
from versatile_diffusion.serving.limits import Limits
from versatile_diffusion.serving.plain import answers, read

EXAMPLES = Path(__file__).parents[3] / "examples"
ASKED: dict[str, Any] = {"to": "image", "contexts": [{"modality": "text", "data": "a red tent"}], "seed": 1}
ASKED |= {"num_inference_steps": 2}
ALONE = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
}
"""Of Ray: a cluster of this machine alone, and workers that neither give way to all else that runs nor are given up."""


def test_requests_of_any_kinds_are_answered(pipe: VersatileDiffusionPipeline) -> None:
    bodies = [ASKED, ASKED | {"to": "text"}, ASKED | {"seed": 2}, ASKED | {"to": "text", "height": 64}]
    image, text, other, wrong = answers(pipe, [read(pipe, body, "tiny") for body in bodies])
    assert image["outputs"][0]["image"] != other["outputs"][0]["image"]
    assert isinstance(text["outputs"][0]["text"], str) and "no height" in wrong["error"]["message"]
    assert {answer["worker"] for answer in (image, text, other, wrong)} == {os.getpid()}
    wrong_ones = ({"guidance_interval": [0.9, 0.1]}, {"num_outputs": 9}, {"start": "/etc/passwd"})
    for unusable in ({}, [], *(ASKED | changes for changes in wrong_ones)):
        with pytest.raises(ValueError):
            read(pipe, unusable, "tiny")
    with pytest.raises(ValueError, match="1023 pixels"):
        read(pipe, ASKED, "tiny", Limits(pixels=1023))


def test_only_the_model_that_is_open_may_be_named(pipe: VersatileDiffusionPipeline) -> None:
    assert {read(pipe, ASKED | named, "tiny").model for named in ({}, {"model": None}, {"model": "tiny"})} == {"tiny"}
    with pytest.raises(ValueError, match="There is no model 'large': take tiny"):
        read(pipe, ASKED | {"model": "large"}, "tiny")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of Ray, which is started once, since that takes long."""
    with pytest.MonkeyPatch.context() as alone:
        for name, value in ALONE.items():
            alone.setenv(name, value)
        import ray

        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20)
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_ray_makes_the_bytes_that_the_command_makes_by_itself(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Image.Image
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("given").mkdir()
    picture.save("given/a.png")
    entries: list[dict[str, Any]] = [{"text": "a red tent"}, {"image": "a.png", "seed": 9}, {"text": "a tree"}]
    Path("given/list.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    command = ["batch", "given/list.jsonl", "-n", "2", "--batch-size", "2", "--model", str(model)]
    command += ["--steps", "2", "--device", "cpu", "--dtype", "fp32"]

    def vd(folder: str, *more: str) -> str:
        result = CliRunner().invoke(app, [*command, "-o", folder, *more])
        assert result.exit_code == 0, result.output
        return result.stderr

    assert "6 of 6 outputs made" in vd("one")
    Path("two").mkdir()
    for name in ("settings.json", "line-0001-seed-0.png"):
        shutil.copy(Path("one", name), "two")
    assert "5 of 6 outputs made" in vd("two", "--ray", "1")
    one, two = ({file.name: file.read_bytes() for file in Path(name).rglob("*.*")} for name in ("one", "two"))
    assert len(one) >= 7 and one == two


@pytest.mark.slow
def test_two_workers_of_ray_serve_make_what_one_makes(
    pipe: VersatileDiffusionPipeline, model: Path, cluster: str
) -> None:  # whose workers stay in the cluster, so that nothing else finds room there
    check_two_workers(pipe, model, "serve_ray.py", "/", environment=ALONE | {"RAY_ADDRESS": cluster})


@pytest.mark.slow
def test_two_workers_of_litserve_make_what_one_makes(pipe: VersatileDiffusionPipeline, model: Path) -> None:
    check_two_workers(pipe, model, "serve_litserve.py", "/predict", "--accelerator", "cpu")


def check_two_workers(
    pipe: VersatileDiffusionPipeline,
    model: Path,
    example: str,
    path: str,
    *options: str,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Asks an example until both of its workers have answered, and checks what they answer."""
    bodies = [ASKED | {"seed": seed} for seed in range(8)]
    expected = answers(pipe, [read(pipe, body, "model") for body in bodies])
    workers: set[int] = set()
    options = ("--model", str(model), "--workers", "2", *options)
    with serving(example, *options, environment=environment) as client, ThreadPoolExecutor(8) as threads:
        for _ in range(200):  # until both have answered
            responses = list(threads.map(lambda body: client.post(path, json=body), bodies))
            assert {response.status_code for response in responses} == {200}, responses[0].text
            found = [response.json() for response in responses]
            assert max(map(difference, map(opened, found), map(opened, expected))) <= 1
            workers |= {answer["worker"] for answer in found}
            if len(workers) == 2:
                break
        for unusable in ({}, ASKED | {"model": "another"}):
            assert client.post(path, json=unusable).status_code == 422
    assert len(workers) == 2 and os.getpid() not in workers


@contextmanager
def serving(example: str, *options: str, environment: Mapping[str, str] | None) -> Iterator[httpx.Client]:
    """A client of an example that runs, in single precision, until the end."""
    port = free_port()
    command = [str(EXAMPLES / example), "--port", str(port), "--dtype", "fp32", *options]
    running = start(python, *command, environment=environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=240) as client:
            while not is_ready(client):
                assert running.is_running, running.stderr
                time.sleep(0.2)
            yield client
    finally:
        family = psutil.Process(running.pid).children(recursive=True) if running.is_running else []
        family += [psutil.Process(pid) for pid in running.started if psutil.pid_exists(pid)]
        running.process.terminate()
        running.process.join()
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.terminate()
        for member in psutil.wait_procs(family, timeout=10)[1]:
            member.kill()


def is_ready(client: httpx.Client) -> bool:
    """Whether all workers are there: LitServe says so, and Ray Serve knows no route before."""
    try:
        return client.get("/health").status_code in (200, 422)
    except httpx.ConnectError:
        return False


def opened(answer: dict[str, Any]) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(answer["outputs"][0]["image"])))


def difference(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.array(one, int) - np.array(other, int)).max())
