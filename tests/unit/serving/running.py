"""What tests of the server share: a worker that waits, and a server that listens."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from socket import create_connection
from threading import Event
from typing import Any

import httpx
import uvicorn
from PIL import Image

from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.jobs import Job
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import Failure, JobResult
from versatile_diffusion.engine.workers import ModelInfo, Watch
from versatile_diffusion.modalities.size_range import SizeRange


class Gate:
    """A worker that begins each batch when it is let, and fails where a seed is 13."""

    def __init__(self, steps: int = 3) -> None:
        both = ("image", "text")
        self.models = {"tiny": ModelInfo(both, both, dict.fromkeys(both, 7.5), {"image": SizeRange.of(8)})}
        self.steps = steps
        self.batches: list[list[int]] = []
        self.running, self.go = Event(), Event()

    def run(self, requests: Sequence[JobRequest], watch: Watch) -> list[JobResult | Failure | None]:
        self.batches.append([request.seeds[0] for request in requests])
        self.running.set()
        while not self.go.wait(0.01):
            if not watch.wanted():
                raise RuntimeError("stopped")
        for step in range(self.steps):
            if not watch.step(step + 1, self.steps, {}):
                raise RuntimeError("stopped")
        if any(request.seeds == (13,) for request in requests):
            raise RuntimeError("a secret of the machine")
        made = {"image": Image.new("RGB", (8, 8), "red"), "text": "a red tent"}
        return [JobResult([made[request.to]] * len(request.seeds), 1.0) for request in requests]

    def close(self) -> None:
        self.go.set()


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """A server of the app on a free port, in a thread: its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=2))
    ready = Event()
    startup = server.startup

    async def started(*arguments: Any, **options: Any) -> None:
        await startup(*arguments, **options)
        ready.set()

    server.startup = started
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A picture as a file."""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def ask_and_leave(address: str, body: dict[str, Any], engine: Engine) -> list[Job]:
    """Hangs up as soon as the job is in the engine."""
    url, content = httpx.URL(address), json.dumps(body).encode()
    head = f"POST /v1/generate HTTP/1.1\r\nHost: {url.netloc.decode()}\r\nContent-Type: application/json\r\n"
    with create_connection((url.host, url.port)) as line:
        line.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        while not (found := [job for job in list(engine._jobs.values()) if job.request.to == body["to"]]):
            time.sleep(0.01)
    return found
