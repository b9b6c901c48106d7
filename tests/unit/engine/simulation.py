"""An engine whose worker only lets a clock go on: what happens to many clients, without waiting for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from PIL import Image

from versatile_diffusion import Context
from versatile_diffusion.engine.engine import Engine, Observer
from versatile_diffusion.engine.jobs import Job, Status
from versatile_diffusion.engine.limits import EngineLimits
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import Failure, JobResult
from versatile_diffusion.engine.workers import ModelInfo, Watch
from versatile_diffusion.modalities.size_range import SizeRange

SIZES = SizeRange.of(64, 8)
SMALL = {"num_inference_steps": 10}
LONG = {"num_inference_steps": 60, "height": 128, "width": 128}
LARGE = {"num_inference_steps": 250, "height": 128, "width": 128}
IMAGE = Image.new("RGB", (8, 8))


@dataclass
class Clock:
    """A time that goes on when it is told to."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class TimedWorker:
    """Takes as long as a model on two cores: a step costs something, and each of its rows something besides."""

    def __init__(self, clock: Clock) -> None:
        both = ("image", "text")
        self.models: Mapping[str, ModelInfo] = {"tiny": ModelInfo(both, both, {"image": 7.5}, {"image": SIZES})}
        self.go = Event()
        self._clock = clock

    def run(self, requests: Sequence[JobRequest], watch: Watch) -> list[JobResult | Failure | None]:
        assert self.go.wait(60)
        first, rows = requests[0].request, sum(len(request.seeds) for request in requests)
        share = (first.height or SIZES.native) * (first.width or SIZES.native) / SIZES.native**2
        self._clock.now += 0.05
        steps = first.num_inference_steps
        assert steps is not None
        for step in range(steps):
            self._clock.now += 0.01 + 0.0015 * rows * share
            if not watch.step(step + 1, steps, {}):
                raise RuntimeError("stopped")
        self._clock.now += 0.005 * rows * share
        return [JobResult([IMAGE] * len(request.seeds), 1.0) for request in requests]

    def close(self) -> None:
        self.go.set()


@dataclass(frozen=True)
class Client:
    """Asks for the same again and again.

    Attributes:
        owner: its key.
        options: of what it asks for.
        outputs: how many at once.
    """

    owner: str
    options: Mapping[str, Any]
    outputs: int = 1

    @property
    def request(self) -> JobRequest:
        """What it asks for."""
        return JobRequest.of("tiny", "image", [Context("text", "a tent")], range(self.outputs), **self.options)


@dataclass
class Simulation(Observer):
    """Clients that ask until so many jobs of the first of them have ended.

    Attributes:
        clients: who asks.
        until: says when it is enough, of how many jobs of each client have ended.
        waits: of each client, how long it waited for each of its jobs, in seconds of the clock.
        statuses: of each client, how its jobs ended.
    """

    clients: Sequence[Client]
    until: Callable[[Sequence[Sequence[float]]], bool]
    waits: list[list[float]] = field(default_factory=list)
    statuses: list[list[Status]] = field(default_factory=list)

    def run(self, timeout: float = 120) -> None:
        clock, self._over = Clock(), Event()
        self._clock, worker = clock, TimedWorker(clock)
        self.waits, self.statuses = [[] for _ in self.clients], [[] for _ in self.clients]
        self._asked: dict[str, tuple[int, float]] = {}
        self._engine = Engine(worker, EngineLimits(queue=1000, timeout=timeout, keep_jobs=1), self, clock)
        self._requests = [client.request for client in self.clients]
        for number in range(len(self.clients)):
            self._ask(number)
        worker.go.set()
        assert self._over.wait(120)
        self._engine.close()

    def _ask(self, number: int) -> None:
        job = self._engine.submit(self._requests[number], self.clients[number].owner)
        self._asked[job.id] = (number, self._clock.now)

    def finished(self, job: Job) -> None:
        if self._over.is_set():
            return
        number, asked = self._asked[job.id]
        self.waits[number].append(self._clock.now - asked)
        self.statuses[number].append(job.state.status)
        if self.until(self.waits):
            self._over.set()
        else:
            self._ask(number)
