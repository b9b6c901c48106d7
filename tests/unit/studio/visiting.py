"""A studio that computes nothing, and visitors of it that speak as its page does."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

import gradio as gr
import httpx
import pytest
from fastapi import FastAPI

from tests.unit.serving.running import Gate, listening
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.limits import EngineLimits
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import Failure, JobResult
from versatile_diffusion.engine.workers import Watch
from versatile_diffusion.serving.app import build_app
from versatile_diffusion.studio.history import History
from versatile_diffusion.studio.page import build, mount
from versatile_diffusion.studio.results_store import Keeper


class Noting(Gate):
    """A worker that keeps what it was asked for."""

    def __init__(self) -> None:
        super().__init__(steps=1)
        self.requests: list[JobRequest] = []
        self.go.set()

    def run(self, requests: Sequence[JobRequest], watch: Watch) -> list[JobResult | Failure | None]:
        self.requests += requests
        return super().run(requests, watch)


@dataclass
class Studio:
    """A studio that listens."""

    address: str
    app: FastAPI
    page: gr.Blocks
    worker: Noting
    history: History
    uploads: Path

    def function(self, name: str, task: str | None = None) -> int:
        """Number of a function of the page, by the name that it has in the code, and the task of its tab."""
        for number, one in self.page.fns.items():
            tab: Any = getattr(one.fn, "__self__", None)
            if getattr(one.fn, "__name__", "") == name and (task is None or tab.task.key == task):
                return number
        raise AssertionError(name)


@contextmanager
def opened(folder: Path) -> Iterator[Studio]:
    """A studio with a history and uploads in a folder."""
    uploads = folder / "uploads"
    uploads.mkdir()
    worker = Noting()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(uploads))
        app = build_app(engine := Engine(worker, EngineLimits()))
        keeper = Keeper(History(folder / "history"), History(folder / "unkept"))
        page = build(app.state.jobs, keeper)
        mount(app, page, keeper)
        with listening(app) as address:
            yield Studio(address, app, page, worker, keeper.history, uploads)
        worker.close()
        engine.close()


@dataclass
class Guest:
    """A visitor."""

    studio: Studio
    session: str = field(default_factory=lambda: token_hex(6))
    cookies: bool = True

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.studio.address, timeout=60)
        if self.cookies:
            self.client.get("/").raise_for_status()

    def upload(self, content: bytes, name: str = "mine.png") -> str:
        [path] = self.client.post("/gradio_api/upload", files={"files": (name, content)}).raise_for_status().json()
        return path

    def fetch(self, path: str) -> httpx.Response:
        return self.client.get(f"/gradio_api/file={path}")

    def call(self, function: int, data: list[Any], **more: Any) -> list[Any]:
        """What a function that is not queued answers."""
        answer = self.client.post("/gradio_api/run/predict", json=self.event(function, data, **more))
        return answer.raise_for_status().json()["data"]

    def event(self, function: int, data: list[Any], **more: Any) -> dict[str, Any]:
        return {"data": data, "fn_index": function, "session_hash": self.session, **more}

    def join(self, function: int, data: list[Any]) -> httpx.Response:
        return self.client.post("/gradio_api/queue/join", json=self.event(function, data))

    def results(self, session: str | None = None) -> list[dict[str, Any]]:
        """What is said of the events of a session, until all of them have ended."""
        said: list[dict[str, Any]] = []
        query = {"session_hash": session or self.session}
        with self.client.stream("GET", "/gradio_api/queue/data", params=query) as lines:
            for line in lines.iter_lines():
                if line.startswith("data:"):
                    said.append(json.loads(line.removeprefix("data:")))
                    if said[-1]["msg"] in ("close_stream", "unexpected_error"):
                        break
        return said

    def run(self, task: str, *filled: Any) -> dict[str, Any]:
        """Clicks Generate in a tab: what was said at the end."""
        how = [1, "fast", 3, 2, 3.0, "dpm", 0, ""]
        how += [None] if task in ("image-to-text", "text-variation") else []
        self.join(self.studio.function("_run", task), ["tiny", *filled, *how]).raise_for_status()
        [end] = [message for message in self.results() if message["msg"] == "process_completed"]
        return end


def file(path: str, **more: Any) -> dict[str, Any]:
    """A file as the page names it."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


def files_in(value: Any) -> list[str]:
    """Paths that an answer names."""
    match value:
        case {"path": str(path)}:
            return [path]
        case dict():
            return [path for each in value.values() for path in files_in(each)]
        case list():
            return [path for each in value for path in files_in(each)]
        case _:
            return []


def regular(path: str) -> bool:
    return os.path.isfile(path) and not os.path.islink(path)
