"""Many clients at one server: how much it makes, with batches and without, and whether all goes well.

python benchmarks/load.py --clients 50 --seconds 60 --json load.json
python benchmarks/load.py --mixed --seconds 60     # a tenth of the clients asks for the largest that is allowed
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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
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


@contextmanager
def serving(model: str, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server and its address, from its start to its end."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "versatile_diffusion.cli", "serve", "--model", model, "--port", str(port)]
    process = subprocess.Popen([*command, *options])
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def measure(batch: int, clients: int, seconds: float, model: str, steps: int) -> Load:
    """Starts a server, asks it, and ends it."""
    with serving(model, "--batch", str(batch)) as (process, address):
        return asyncio.run(_ask(process, address, Load(batch, seconds), clients, steps))


async def _ask(server: subprocess.Popen[bytes], address: str, load: Load, clients: int, steps: int) -> Load:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=300, limits=limits) as http:
        await _until_ready(http, server)
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


async def _until_ready(http: httpx.AsyncClient, server: subprocess.Popen[bytes]) -> None:
    while not await _is_ready(http):
        if server.poll() is not None:
            raise RuntimeError(f"The server ended with exit code {server.returncode}: see above.")
        await asyncio.sleep(0.1)


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


# ---- small requests beside the largest ----


@dataclass
class Waits:
    """How long small requests waited for their pictures.

    Attributes:
        alone: seconds, while all clients asked for small ones.
        beside: the same, while a tenth of the clients asked for the largest that is allowed.
        large: seconds that large ones took that ended meanwhile.
        begun: steps that the others had taken, of how many.
    """

    alone: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    large: list[float] = field(default_factory=list)
    begun: list[tuple[int, int]] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How much longer the median of the small ones is beside large ones."""
        return median(self.beside) / median(self.alone)

    @property
    def figures(self) -> dict[str, Any]:
        """All figures, for a file."""
        medians = {"median_alone": median(self.alone), "median_beside": median(self.beside), "ratio": self.ratio}
        longest = {"longest_alone": max(self.alone), "longest_beside": max(self.beside)}
        return {**medians, **longest, "small": len(self.beside), "large": self.large, "begun": self.begun}


def measure_mixed(clients: int, seconds: float, model: str, steps: int) -> Waits:
    """Asks one server twice: with small requests only, and with a tenth of the clients asking for the largest."""
    with serving(model, "--queue", str(2 * clients), "--timeout", "600") as (process, address):
        return asyncio.run(_ask_mixed(process, address, clients, seconds, steps))


async def _ask_mixed(server: subprocess.Popen[bytes], address: str, clients: int, seconds: float, steps: int) -> Waits:
    waits, few = Waits(), max(1, clients // 10)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)  # the server closes idle ones
    async with httpx.AsyncClient(base_url=address, timeout=600, limits=limits) as http:
        await _until_ready(http, server)
        (shown, *_) = (await http.get("/v1/models")).json()["data"]
        side = int(shown["largest_areas"]["image"] ** 0.5)
        large = {"num_inference_steps": 250, "num_outputs": 8, "height": side, "width": side}
        small = {"num_inference_steps": steps}
        await _small(http, [], 0, small, time.monotonic() + 2)  # which imports what the first request needs
        for found, bodies in ((waits.alone, []), (waits.beside, [large] * few)):
            end = time.monotonic() + seconds
            small_ones = [_small(http, found, number, small, end) for number in range(clients - few)]
            await asyncio.gather(*small_ones, *(_large(http, waits, body, end) for body in bodies))
    return waits


async def _small(http: httpx.AsyncClient, waits: list[float], number: int, options: dict[str, int], end: float) -> None:
    seed = 1000 * number
    while (asked := time.monotonic()) < end:
        seed += 1
        await _end(http, await _job(http, options | {"seed": seed}))
        waits.append(time.monotonic() - asked)


async def _large(http: httpx.AsyncClient, waits: Waits, options: dict[str, int], end: float) -> None:
    while (asked := time.monotonic()) < end:
        job = await _job(http, options)
        try:
            await asyncio.wait_for(_end(http, job), end - time.monotonic())
            waits.large.append(time.monotonic() - asked)
        except TimeoutError:
            state = (await http.delete(f"/v1/jobs/{job}")).json()
            waits.begun.append((state["step"], state["steps"]))


async def _job(http: httpx.AsyncClient, options: dict[str, int]) -> str:
    contexts = [{"modality": "text", "data": f"a {WORDS[options.get('seed', 0) % len(WORDS)]}"}]
    answer = await http.post("/v1/generate", json={"to": "image", "contexts": contexts, **options})
    answer.raise_for_status()
    return answer.json()["id"]


def _table_of_waits(waits: Waits, busy: float) -> Table:
    table = Table("", title="Waits", caption=f"load of the machine {busy:.1f} before", title_justify="left")
    table.add_column("small ones alone", justify="right")
    table.add_column("beside the largest", justify="right")
    pairs = {"median (s)": median, "longest (s)": max, "small ones made": len}
    for name, figure in pairs.items():
        table.add_row(name, *(f"{figure(found):.4g}" for found in (waits.alone, waits.beside)))
    table.add_row("ratio of the medians", "", f"{waits.ratio:.2f}")
    table.add_row("large ones made", "", f"{len(waits.large)}")
    table.add_row("steps of the others", "", ", ".join(f"{step}/{steps}" for step, steps in waits.begun))
    return table


def main(
    clients: int = 50,
    seconds: float = 60,
    model: str = "postcards",
    steps: int = 10,
    batch: int = 8,
    mixed: Annotated[bool, typer.Option(help="How long small requests wait beside the largest ones.")] = False,
    as_json: Annotated[Path | None, typer.Option("--json", help="A file for the figures.")] = None,
) -> None:
    """Measures a server with batches, and one without."""
    busy = os.getloadavg()[0]
    if mixed:
        waits = measure_mixed(clients, seconds, model, steps)
        Console().print(_table_of_waits(waits, busy))
        if as_json:
            as_json.write_text(json.dumps(waits.figures | {"load_before": busy}, indent=2) + "\n")
        return
    loads = [measure(size, clients, seconds, model, steps) for size in (batch, 1)]
    Console().print(_table(loads, busy))
    if as_json:
        found: dict[str, Any] = {"clients": clients, "model": model, "steps": steps, "load_before": busy}
        found["loads"] = [vars(load) | {"rate": load.rate} for load in loads]
        as_json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
