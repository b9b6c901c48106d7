"""`vd serve`: what it refuses, and a real server that lives through a killed computation."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from typer.testing import CliRunner

from tests.processes import Running, start_vd
from tests.unit.serving.running import Gate
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.cli import app
from versatile_diffusion.engine import isolation
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.limits import EngineLimits
from versatile_diffusion.serving import server
from versatile_diffusion.serving.app import build_app
from versatile_diffusion.serving.keys import KEYS_VARIABLE, Keys
from versatile_diffusion.serving.limits import Limits

KEY = "a-key-for-the-tests"


def test_it_listens_to_others_only_with_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VD_API_KEYS", raising=False)
    for host in ("0.0.0.0", "::", "example.org"):
        result = CliRunner().invoke(app, ["serve", "--host", host])
        assert result.exit_code == 1 and "give keys with --keys FILE" in result.stderr
    short = tmp_path / "keys"
    short.write_text("# mine\nabc\n")
    result = CliRunner().invoke(app, ["serve", "--host", "0.0.0.0", "--keys", str(short)])
    assert result.exit_code == 1 and "16 characters" in result.stderr
    short.write_text("# none\n")
    result = CliRunner().invoke(app, ["serve", "--keys", str(short)])
    assert result.exit_code == 1 and "holds no API key" in result.stderr


def test_what_is_cheap_is_checked_before_a_model_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VD_API_KEYS", raising=False)
    opened: list[Any] = []
    monkeypatch.setattr(isolation, "ProcessWorker", lambda *given: opened.append(given))
    keys = tmp_path / "keys"
    keys.write_text("short\n")
    for options in (["--host", "0.0.0.0"], ["--keys", str(keys)]):
        assert CliRunner().invoke(app, ["serve", *options]).exit_code == 1
    assert not opened


def test_keys_come_from_both_places(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{'a' * 16}  # somebody\n\n{'b' * 16}\n")
    keys = Keys.read(f"{'c' * 16}, {'d' * 16},", file)
    owners = {keys.owner(letter * 16) for letter in "abcd"}
    assert len(owners) == 4 and None not in owners
    assert keys.owner("e" * 16) is None and not Keys.read(None, None)


def test_the_help_gives_examples() -> None:
    shown = CliRunner().invoke(app, ["serve", "--help"]).stdout
    assert " vd serve --host 0.0.0.0 --keys keys.txt" in shown


@pytest.mark.slow
def test_a_killed_computation_does_not_end_the_server(pipe: VersatileDiffusionPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "tiny")
    port = free_port()
    command = ["serve", "--model", tmp_path / "tiny", "--port", port]
    process = start_vd(*command, environment={KEYS_VARIABLE: KEY})
    asked = {"to": "image", "contexts": [{"modality": "text", "data": "a red tent"}], "num_inference_steps": 2}
    try:
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=120) as client:
            wait_for(client, process)
            assert client.get("/v1/models").json()["data"][0]["id"] == "tiny"
            assert client.post("/v1/generate", json=asked | {"wait": True}).json()["status"] == "succeeded"
            job = client.post("/v1/generate", json=asked | {"num_inference_steps": 250}).json()
            with client.stream("GET", f"/v1/jobs/{job['id']}/events") as events:
                next(line for line in events.iter_lines() if '"step":1' in line)
                os.kill(process.started[-1], signal.SIGKILL)
            with client.stream("GET", f"/v1/jobs/{job['id']}/events") as events:
                assert "SIGKILL" in list(events.iter_lines())[-2]
            assert client.get("/healthz").json()["status"] == "ok"
            assert client.post("/v1/generate", json=asked | {"wait": True}).json()["status"] == "succeeded"
            tell_those_who_wait(process, client, asked | {"num_inference_steps": 250})
        assert process.returncode == 0 and "Exception in ASGI application" not in process.stderr
    finally:
        process.kill()


def tell_those_who_wait(process: Running, client: httpx.Client, asked: dict[str, Any]) -> None:
    """Stops a server that has one job running, and one that waits."""
    job = client.post("/v1/generate", json=asked).json()
    with client.stream("GET", f"/v1/jobs/{job['id']}/events") as events, ThreadPoolExecutor() as threads:
        lines = events.iter_lines()
        next(line for line in lines if '"step":1' in line)
        waiting = threads.submit(client.post, "/v1/generate", json=asked | {"to": "text", "wait": True})
        while not client.get("/healthz").json()["waiting"]:
            assert not waiting.done()
        process.send(signal.SIGINT)
        assert any("The server was stopped" in line for line in lines)
        assert waiting.result().status_code == 503 and "was stopped" in waiting.result().text


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(client: httpx.Client, process: Running) -> None:
    while True:
        assert process.is_running, process.stderr
        try:
            client.get("/healthz")
            return
        except httpx.ConnectError:
            time.sleep(0.1)


def test_the_server_itself_needs_no_pytorch() -> None:
    code = "import sys, versatile_diffusion.serving.server, versatile_diffusion.engine.isolation"
    done = subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"])
    assert done.returncode == 0


def test_a_request_is_taken_in_without_the_libraries_of_models() -> None:
    code = """if True:
        import sys
        from PIL import Image
        from versatile_diffusion.context import Context
        from versatile_diffusion.engine.records import record_of
        from versatile_diffusion.engine.requests import JobRequest

        request = JobRequest.of("postcards", "image", [Context("image", Image.new("RGB", (8, 8)))], [7])
        assert record_of(request).is_whole
        sys.exit(", ".join({"diffusers", "transformers", "torchao"} & set(sys.modules)) or None)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_port_that_was_found_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "ProcessWorker", lambda *_: Gate())
    monkeypatch.setattr(server, "serve", lambda worker, on_ready, **_: on_ready(12345))
    assert "at http://127.0.0.1:12345 " in CliRunner().invoke(app, ["serve", "--port", "0"]).stderr


def test_the_server_listens_at_the_port_that_it_tells() -> None:
    engine = Engine(Gate())

    def stop(port: int) -> None:
        socket.create_connection(("127.0.0.1", port)).close()
        listener.should_exit = True

    config = uvicorn.Config(build_app(engine), port=0, log_level="warning")
    listener = server._Server(config, engine, on_ready=stop)
    with ThreadPoolExecutor(1) as aside:  # the browser's tests leave a loop running in the main thread
        aside.submit(listener.run).result(60)
    assert listener.should_exit


def test_every_limit_has_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {field.name: index for index, field in enumerate([*fields(EngineLimits), *fields(Limits)], start=1)}
    options = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    found: dict[str, Any] = {}
    monkeypatch.setattr(isolation, "ProcessWorker", lambda *_: Gate())
    monkeypatch.setattr(server, "serve", lambda worker, **options: found.update(options))
    assert CliRunner().invoke(app, ["serve", *options]).exit_code == 0
    assert vars(found["engine_limits"]) | vars(found["limits"]) == given
