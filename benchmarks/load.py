"""Many clients at one server: how much it makes, with batches and without, and whether all goes well.

python benchmarks/load.py --clients 50 --seconds 60 --json load.json
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx
import psutil
import typer
from rich.console import Console
from rich.table import Table

WORDS = ("red lighthouse by the sea", "blue tent in the meadow", "yellow windmill in the snow", "green tree")
WARM_UP = 0.25  # of the time, before the first look at the memory


@dataclass
class Load:
    """What the clients of one server saw.

    Attributes:
        batch: outputs that the server computes at once.
        seconds: for which clients asked.
        accepted: jobs that the server took.
        ended: of these, by how they ended.
        errors: answers that are neither of these nor 429.
        full: answers 429, to which clients do as they are told.
        memory: bytes of all processes of the server, after the warm-up and at the end.
    """

    batch: int
    seconds: float
    accepted: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    full: int = 0
    memory: tuple[int, int] = (0, 0)

    @property
    def rate(self) -> float:
        """Pictures in a second."""
        return self.ended["succeeded"] / self.seconds


def measure(batch: int, clients: int, seconds: float, model: str, steps: int) -> Load:
    """Starts a server, asks it, and ends it."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    options = ["--model", model, "--port", str(port), "--batch", str(batch)]
    process = subprocess.Popen([sys.executable, "-m", "versatile_diffusion.cli", "serve", *options])
    try:
        return asyncio.run(_ask(process, f"http://127.0.0.1:{port}", Load(batch, seconds), clients, steps))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


async def _ask(server: subprocess.Popen[bytes], address: str, load: Load, clients: int, steps: int) -> Load:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=300, limits=limits) as http:
        while not await _is_ready(http):
            if server.poll() is not None:
                raise RuntimeError(f"The server ended with exit code {server.returncode}: see above.")
            await asyncio.sleep(0.1)
        started = time.monotonic()
        end = started + load.seconds
        asking = [asyncio.create_task(_client(http, load, number, end, steps)) for number in range(clients)]
        await asyncio.sleep(WARM_UP * load.seconds)
        before = _memory(server.pid)
        await asyncio.gather(*asking)
        load.seconds = time.monotonic() - started
        load.memory = (before, _memory(server.pid))
    return load


async def _client(http: httpx.AsyncClient, load: Load, number: int, end: float, steps: int) -> None:
    """Asks for one picture after the other, and watches each until it is there."""
    seed = 1000 * number
    while time.monotonic() < end:
        seed += 1
        context = {"modality": "text", "data": f"a {WORDS[seed % len(WORDS)]}"}
        body = {"to": "image", "contexts": [context], "seed": seed, "num_inference_steps": steps}
        try:
            answer = await http.post("/v1/generate", json=body)
            if answer.status_code == 429:
                load.full += 1
                await asyncio.sleep(min(float(answer.headers["Retry-After"]), max(0.0, end - time.monotonic())))
                continue
            if answer.status_code != 202:
                load.errors[str(answer.status_code)] += 1
                continue
            load.accepted += 1
            load.ended[await _end(http, answer.json()["id"])] += 1
        except httpx.HTTPError as error:
            load.errors[type(error).__name__] += 1


async def _end(http: httpx.AsyncClient, job: str) -> str:
    status = "lost"
    async with http.stream("GET", f"/v1/jobs/{job}/events") as events:
        async for line in events.aiter_lines():
            if line.startswith("event: "):
                status = line.removeprefix("event: ")
    return status


async def _is_ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/healthz")).status_code == 200
    except httpx.ConnectError:
        return False


def _memory(server: int) -> int:
    process = psutil.Process(server)
    return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)])


def _table(loads: list[Load], busy: float) -> Table:
    table = Table("", title="Load", caption=f"load of the machine {busy:.1f} before", title_justify="left")
    for load in loads:
        table.add_column(f"batches of {load.batch}" if load.batch > 1 else "one by one", justify="right")
    rows: dict[str, Any] = {
        "pictures/s": [f"{load.rate:.2f}" for load in loads],
        "jobs accepted": [str(load.accepted) for load in loads],
        "… that succeeded": [str(load.ended["succeeded"]) for load in loads],
        "… that did not end": [str(load.accepted - load.ended.total() + load.ended["lost"]) for load in loads],
        "answers 429": [str(load.full) for load in loads],
        "other errors": [str(load.errors.total()) for load in loads],
        "memory, warm → end (GB)": [" → ".join(f"{size / 1e9:.2f}" for size in load.memory) for load in loads],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def main(
    clients: int = 50,
    seconds: float = 60,
    model: str = "postcards",
    steps: int = 10,
    batch: int = 8,
    as_json: Annotated[Path | None, typer.Option("--json", help="A file for the figures.")] = None,
) -> None:
    """Measures a server with batches, and one without."""
    busy = os.getloadavg()[0]
    loads = [measure(size, clients, seconds, model, steps) for size in (batch, 1)]
    Console().print(_table(loads, busy))
    if as_json:
        found: dict[str, Any] = {"clients": clients, "model": model, "steps": steps, "load_before": busy}
        found["loads"] = [vars(load) | {"rate": load.rate} for load in loads]
        as_json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
