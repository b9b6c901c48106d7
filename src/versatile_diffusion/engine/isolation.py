"""A worker in a process of its own: if the computation is killed or hangs, the server lives, and starts another."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import time
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from versatile_diffusion import lean
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import BatchFailed, Failure, JobResult, Reason
from versatile_diffusion.engine.workers import (
    Disturbed,
    LocalWorker,
    ModelInfo,
    Source,
    Watch,
    Worker,
    open_models,
    require_unlike_names,
)

_TICK = 0.2
_GRACE = 2.0  # seconds
_PATIENCE = 30.0  # seconds for what cannot be interrupted, such as decoding, before the process is killed


@dataclass(frozen=True)
class ModelsOpened:
    """The process says that the models are open."""

    models: Mapping[str, ModelInfo]


@dataclass(frozen=True)
class StepTaken:
    """The process says that it has taken a step of a batch."""

    step: int
    steps: int
    previews: Mapping[int, object]


@dataclass(frozen=True)
class BatchComputed:
    """The process says what the jobs of a batch gave."""

    results: list[JobResult | Failure | None]


@dataclass(frozen=True)
class WorkFailed:
    """The process says why a batch gave nothing, or why there are no models."""

    failure: Failure
    details: str


class ProcessWorker:
    """Computes in another process, which is started anew whenever it has died.

    The process starts at once, and opens the models while its parent does something else: imports, for instance.

    Args:
        sources: models to open, the default first.
        device: see `devices.choose_device`.
        dtype: see `devices.choose_dtype`.
        backend: see `open_models`.

    Raises:
        ValueError: if there are no models, or two of one name.
    """

    def __init__(
        self, sources: Sequence[Source], device: str = "auto", dtype: str = "auto", backend: str | None = None
    ) -> None:
        require_unlike_names(sources)
        self._arguments = (list(sources), device, dtype, backend)
        self._models: Mapping[str, ModelInfo] | None = None
        self._lost = 0  # processes that ended with a batch
        self._start()

    @property
    def models(self) -> Mapping[str, ModelInfo]:
        """The models by name, the default first. Waits until they are open.

        Raises:
            RuntimeError: if a model cannot be opened; the message says why.
        """
        if self._models is None:
            self._models = self._opened()
        return self._models

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy locks and CUDA's state
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(theirs, *self._arguments), name="worker", daemon=True)
        self._process.start()
        self._is_open = False
        theirs.close()

    def _opened(self) -> Mapping[str, ModelInfo]:
        match self._receive():
            case ModelsOpened(models):
                self._is_open = True
                return models
            case WorkFailed(failure):
                self._process.join()
                raise RuntimeError(failure.message)
            case answer:
                raise AssertionError(answer)

    def run(self, requests: Sequence[JobRequest], watch: Watch) -> list[JobResult | Failure | None]:
        """See `computing.compute`. After each step the process waits, or computes other batches, until it may go on.

        Raises:
            BatchFailed: if the pipeline raises, or the process dies.
            Disturbed: if the process died of another batch.
        """
        if not self._process.is_alive():
            self._start()
        while not self._is_open and not self._pipe.poll(_TICK):
            if not watch.wanted():
                return [None] * len(requests)
        if not self._is_open:
            self._models = self._opened()
        self._send(list(requests))
        wanted_at = time.monotonic()
        while True:
            if self._pipe.poll(_TICK):
                match self._receive():
                    case StepTaken(step, steps, previews):
                        self._send(self._after_step(watch, step, steps, previews))
                        wanted_at = time.monotonic()
                    case BatchComputed(results):
                        return results
                    case WorkFailed(failure, details):
                        raise BatchFailed(failure, details)
                    case answer:
                        raise AssertionError(answer)
            elif watch.wanted():
                wanted_at = time.monotonic()
            elif time.monotonic() - wanted_at > _PATIENCE:
                self.close()
                self._lost += 1
                raise BatchFailed(Failure(Reason.CRASHED, "The computation did not stop, and was ended."))

    def _after_step(self, watch: Watch, step: int, steps: int, previews: Mapping[int, object]) -> frozenset[int]:
        """What is still wanted of a batch after a step, in which the watch may have run other batches."""
        lost = self._lost
        wanted = watch.step(step, steps, previews)
        if self._lost != lost:
            raise Disturbed("The process that computed it ended with another batch.")
        return frozenset(wanted)

    def close(self) -> None:
        """Ends the process: it goes by itself when nobody asks any more, and is killed if it is busy."""
        self._pipe.close()
        self._process.join(_GRACE if self._models else 0)
        self._process.kill()
        self._process.join()

    def _send(self, message: object) -> None:
        try:
            self._pipe.send_bytes(pickle.dumps(message))
        except OSError as error:
            raise self._died() from error

    def _receive(self) -> object:
        try:
            return pickle.loads(self._pipe.recv_bytes())
        except (EOFError, OSError) as error:
            raise self._died() from error

    def _died(self) -> BatchFailed:
        self._lost += 1
        self._process.join()
        code = self._process.exitcode or 0
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return BatchFailed(
            Failure(Reason.CRASHED, f"The computation ended unexpectedly ({how}), perhaps for want of memory.")
        )


class _Remote:
    """Whoever waits for the batch on the other side of the pipe; see `workers.Watch`."""

    def __init__(self, pipe: Connection, worker: Worker, count: int) -> None:
        self._pipe = pipe
        self._worker = worker
        self._wanted = frozenset(range(count))

    def step(self, step: int, steps: int, previews: Mapping[int, object]) -> Collection[int]:
        _answer(self._pipe, StepTaken(step, steps, dict(previews)))
        while isinstance(message := _asked(self._pipe), list):
            _compute(self._pipe, self._worker, message)
        self._wanted = message
        return message

    def wanted(self) -> Collection[int]:
        return self._wanted


def _answer(pipe: Connection, message: ModelsOpened | StepTaken | BatchComputed | WorkFailed) -> None:
    try:
        pipe.send_bytes(pickle.dumps(message))  # by value: torch's own way shares memory, which dies with the process
    except BrokenPipeError:
        raise SystemExit from None  # nobody asks any more


def _asked(pipe: Connection) -> list[JobRequest] | frozenset[int]:
    """A batch to compute or, after a step of one, what is still wanted of it."""
    try:
        return pickle.loads(pipe.recv_bytes())
    except EOFError:
        raise SystemExit from None  # nobody asks any more


def _compute(pipe: Connection, worker: Worker, requests: Sequence[JobRequest]) -> None:
    try:
        results = worker.run(requests, _Remote(pipe, worker, len(requests)))
    except Exception as error:
        _answer(pipe, WorkFailed(Failure.of(error), traceback.format_exc()))
    else:
        _answer(pipe, BatchComputed(results))


def _main(pipe: Connection, sources: Sequence[Source], device: str, dtype: str, backend: str | None) -> None:
    """The other process: opens the models, and computes batches until the pipe is closed."""
    lean.install(own_process=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this process
    try:
        worker = LocalWorker(open_models(sources, device, dtype, backend))
    except Exception as error:
        _answer(pipe, WorkFailed(Failure(Reason.CRASHED, str(error)), traceback.format_exc()))
        return
    _answer(pipe, ModelsOpened(worker.models))
    while isinstance(requests := _asked(pipe), list):
        _compute(pipe, worker, requests)
