"""Two nodes of Ray on this machine, one of which dies at work: what becomes of requests, and of a list of prompts.

python benchmarks/cluster.py requests     # examples/serve_ray.py: are all answered, and with the same pictures?
python benchmarks/cluster.py prompts      # vd batch --ray: is every output there, and the same as without Ray?

Nodes have addresses of their own (127.0.0.2, 127.0.0.3, …), which Linux has; one dies with all its processes at once.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import secrets
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import psutil
import typer
from PIL import Image

ROOT = Path(__file__).parents[1]
WORDS = ("red lighthouse by the sea", "blue tent in the meadow", "yellow windmill in the snow", "green tree")
SEEDS = 8  # which clients ask for over and over

app = typer.Typer(help=__doc__, rich_markup_mode=None)


@dataclass
class Cluster:
    """Nodes of Ray with one CPU each.

    Attributes:
        folder: for what they write.
        port: of the first.
        nodes: that were started, the first one first.
        token: by which nodes and programs know each other.
    """

    folder: Path
    port: int
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    token: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def address(self) -> str:
        return f"127.0.0.2:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What finds the cluster."""
        paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
        known = {"RAY_ADDRESS": self.address, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        known |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        return {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", **known}

    def start(self) -> subprocess.Popen[bytes]:
        """Starts another node, and waits until it has joined."""
        number = len(self.nodes)
        where = (
            ["--head", f"--port={self.port}", "--include-dashboard=false"]
            if number == 0
            else [f"--address={self.address}"]
        )
        options = [f"--node-ip-address=127.0.0.{2 + number}", f"--temp-dir={self.folder}", "--num-cpus=1", "--block"]
        options += ["--object-store-memory=200000000"]
        environment = {**self.environment, "RAY_worker_niceness": "0"}
        del environment["RAY_ADDRESS"]
        said = self.folder / f"node-{number}.log"
        with said.open("wb") as log:
            command = [sys.executable, "-m", "ray.scripts.scripts", "start", *where, *options]
            node = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self.nodes.append(node)
        while b"Ray runtime started" not in said.read_bytes():
            if node.poll() is not None:
                raise SystemExit(said.read_text())
            time.sleep(0.2)
        return node


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster of two nodes, from its start to its end."""
    with TemporaryDirectory(prefix="ray-") as folder:
        with socket.socket() as free:
            free.bind(("127.0.0.2", 0))
            found = Cluster(Path(folder), free.getsockname()[1])
        try:
            found.start()
            found.start()
            print(f"Two nodes of Ray at {found.address}.")
            yield found
        finally:
            for node in reversed(found.nodes):
                kill(node)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all that it started, at once, as a machine dies that loses its power."""
    if process.poll() is None:
        all_of_them = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for one in all_of_them:
            one.kill()
        process.wait()


@dataclass(frozen=True)
class Answer:
    """What a client heard.

    Attributes:
        seed: that it asked for.
        asked: when, in seconds of `time.monotonic`.
        answered: when.
        how: the status, or what kept the answer away.
        worker: the process that computed it.
        picture: as it was sent.
    """

    seed: int
    asked: float
    answered: float
    how: str
    worker: int = 0
    picture: str = ""


@app.command()
def requests(clients: int = 4, seconds: float = 20, steps: int = 10) -> None:
    """Kills a node while clients ask, and starts another one later."""
    with cluster() as ray, serving(ray) as address:
        asyncio.run(_requests(ray, address, clients, seconds, steps))


@contextmanager
def serving(ray: Cluster) -> Iterator[str]:
    """The example, from when both of its replicas are there, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "examples" / "serve_ray.py"), "--workers", "2", "--port", str(port)]
    with (ray.folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, env=ray.environment, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        kill(process)


async def _requests(ray: Cluster, address: str, clients: int, seconds: float, steps: int) -> None:
    answers: list[Answer] = []
    async with httpx.AsyncClient(base_url=address, timeout=300, limits=httpx.Limits(max_connections=None)) as http:
        while not await _is_ready(http):
            await asyncio.sleep(1)
        asking = [asyncio.create_task(_client(http, answers, number, steps)) for number in range(clients)]
        await _until_two_answer(answers, 0.0)
        await asyncio.sleep(seconds)
        killed = time.monotonic()
        print(f"{len(answers)} answers; now a node dies.")
        await asyncio.to_thread(kill, ray.nodes[1])
        await asyncio.sleep(seconds)
        started = time.monotonic()
        print(f"{len(answers)} answers; now another node joins.")
        await asyncio.to_thread(ray.start)
        back = await _until_two_answer(answers, started)
        await asyncio.sleep(seconds / 2)
        for each in asking:
            each.cancel()
    _report(answers, killed, started, back)


async def _is_ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.post("/", json=_body(0, 1))).status_code == 200
    except httpx.TransportError:
        return False


async def _until_two_answer(answers: list[Answer], since: float) -> float:
    """Waits until two processes have answered what was asked after a time, and returns when that was."""
    while len({answer.worker for answer in answers if answer.asked > since and answer.how == "200"}) < 2:
        await asyncio.sleep(0.2)
    return time.monotonic()


async def _client(http: httpx.AsyncClient, answers: list[Answer], number: int, steps: int) -> None:
    """Asks for one picture after the other."""
    while True:
        number = (number + 1) % SEEDS
        asked = time.monotonic()
        try:
            response = await http.post("/", json=_body(number, steps))
        except httpx.HTTPError as error:
            answers.append(Answer(number, asked, time.monotonic(), type(error).__name__))
            continue
        now, how = time.monotonic(), str(response.status_code)
        if how != "200":
            answers.append(Answer(number, asked, now, f"{how}: {response.text:.200}"))
            continue
        told = response.json()
        answers.append(Answer(number, asked, now, how, told["worker"], told["outputs"][0]["image"]))


def _body(seed: int, steps: int) -> dict[str, Any]:
    context = {"modality": "text", "data": f"a {WORDS[seed % len(WORDS)]}"}
    return {"to": "image", "contexts": [context], "seed": seed, "num_inference_steps": steps}


def _report(answers: list[Answer], killed: float, started: float, back: float) -> None:
    """Prints what clients saw before, while and after a node was missing."""
    parts = {
        "two nodes": [answer for answer in answers if answer.answered <= killed],
        "one has died": [answer for answer in answers if killed < answer.answered <= started],
        "two again": [answer for answer in answers if started < answer.answered],
    }
    for name, those in parts.items():
        waits = sorted(answer.answered - answer.asked for answer in those) or [0.0]
        ends = Counter(answer.how for answer in those)
        workers = len({answer.worker for answer in those if answer.how == "200"})
        print(f"{name}: {workers} processes answered; waits {waits[len(waits) // 2]:.2f} s, at most {waits[-1]:.2f} s")
        print("   " + "; ".join(f"{count} × {how}" for how, count in ends.items()))
    print(f"The new node's replica answered {back - started:.1f} s after it was started.")
    good = [answer for answer in answers if answer.how == "200"]
    first: dict[int, np.ndarray] = {}
    pixels = [(answer.seed, _pixels(answer)) for answer in good]
    other = sum(np.abs(first.setdefault(seed, picture) - picture).max() > 1 for seed, picture in pixels)
    print(f"{len(answers)} requests, {len(answers) - len(good)} not answered; {other} pictures of a seed are others.")


def _pixels(answer: Answer) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.picture)))).astype(int)


@app.command()
def prompts(count: int = 64, steps: int = 10, batch_size: int = 4) -> None:
    """Kills a node while it makes pictures of a list, and counts what came of it."""
    with cluster() as ray:
        (ray.folder / "list.txt").write_text("".join(f"a {WORDS[line % len(WORDS)]}\n" for line in range(count)))
        options = ["--steps", str(steps), "--batch-size", str(batch_size), "--dtype", "fp32", "--device", "cpu"]
        command = [sys.executable, "-m", "versatile_diffusion.cli", "batch", "list.txt", *options]
        whole = subprocess.Popen([*command, "-o", "on-ray", "--ray", "2"], cwd=ray.folder, env=ray.environment)
        made = ray.folder / "on-ray"
        while len(list(made.glob("*.png"))) < count / 4 or not all(map(_makes, ray.nodes)):
            if whole.poll() is not None:
                raise SystemExit("It ended too soon to kill a node: take a larger --count.")
            time.sleep(0.1)
        print(f"{len(list(made.glob('*.png')))} pictures, and a copy of the model on each node; now one dies.")
        kill(ray.nodes[1])
        code = whole.wait()
        kill(ray.nodes[0])
        subprocess.run([*command, "-o", "alone"], cwd=ray.folder, env=ray.environment, check=True)
        _count(code, made, ray.folder / "alone", count)


def _makes(node: subprocess.Popen[bytes]) -> bool:
    """Whether a copy of the model runs on a node."""
    return any("MapWorker" in process.name() for process in psutil.Process(node.pid).children(recursive=True))


def _count(code: int, made: Path, alone: Path, count: int) -> None:
    """Prints what is there, and what should be."""
    there, wanted = ({file.name: file.read_bytes() for file in folder.glob("*.png")} for folder in (made, alone))
    assert len(wanted) == count
    same = sum(content == there.get(name) for name, content in wanted.items())
    print(
        f"Exit code {code}. {count} prompts: {len(there)} pictures, of which {same} are byte for byte those made alone;"
    )
    print(f"{len(wanted.keys() - there.keys())} lost, {len(there.keys() - wanted.keys())} that nobody asked for.")
    if code != 0 or there != wanted:
        raise SystemExit(1)


if __name__ == "__main__":
    app()
