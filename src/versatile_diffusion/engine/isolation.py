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

from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import BatchFailed, Failure, JobResult, Reason
from versatile_diffusion.engine.workers import LocalWorker, ModelInfo, Source, Watch, open_models, require_unlike_names

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

    Raises:
        ValueError: if there are no models, or two of one name.
    """

    def __init__(self, sources: Sequence[Source], device: str = "auto", dtype: str = "auto") -> None:
        require_unlike_names(sources)
        self._arguments = (list(sources), device, dtype)
        self._models: Mapping[str, ModelInfo] | None = None
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
        """See `computing.compute`.

        Raises:
            BatchFailed: if the pipeline raises, or the process dies.
        """
        if not self._process.is_alive():
            self._start()
        while not self._is_open and not self._pipe.poll(_TICK):
            if not watch.wanted():
                return [None] * len(requests)
        if not self._is_open:
            self._models = self._opened()
        self._send(list(requests))
        known, unwanted_since = frozenset(range(len(requests))), None
        while True:
            if not self._pipe.poll(_TICK):
                wanted = watch.wanted()
            else:
                match self._receive():
                    case StepTaken(step, steps, previews):
                        wanted = watch.step(step, steps, previews)
                    case BatchComputed(results):
                        return results
                    case WorkFailed(failure, details):
                        raise BatchFailed(failure, details)
                    case answer:
                        raise AssertionError(answer)
            if known != (known := frozenset(wanted)):
                self._send(known)
                unwanted_since = None if known else time.monotonic()
            if unwanted_since is not None and time.monotonic() - unwanted_since > _PATIENCE:
                self.close()
                raise BatchFailed(Failure(Reason.CRASHED, "The computation did not stop, and was ended."))

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
        self._process.join()
        code = self._process.exitcode or 0
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return BatchFailed(
            Failure(Reason.CRASHED, f"The computation ended unexpectedly ({how}), perhaps for want of memory.")
        )


class _Remote:
    """Whoever waits for the batch on the other side of the pipe; see `workers.Watch`."""

    def __init__(self, pipe: Connection, count: int) -> None:
        self._pipe = pipe
        self._wanted = frozenset(range(count))

    def step(self, step: int, steps: int, previews: Mapping[int, object]) -> Collection[int]:
        _answer(self._pipe, StepTaken(step, steps, dict(previews)))
        return self.wanted()

    def wanted(self) -> Collection[int]:
        while self._pipe.poll():  # all that can come now is what is still wanted
            self._wanted = pickle.loads(self._pipe.recv_bytes())
        return self._wanted


def _answer(pipe: Connection, message: ModelsOpened | StepTaken | BatchComputed | WorkFailed) -> None:
    pipe.send_bytes(pickle.dumps(message))  # by value: torch's own way shares memory, which dies with the process


def _main(pipe: Connection, sources: Sequence[Source], device: str, dtype: str) -> None:
    """The other process: opens the models, and computes batches until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this process
    try:
        worker = LocalWorker(open_models(sources, device, dtype))
    except Exception as error:
        _answer(pipe, WorkFailed(Failure(Reason.CRASHED, str(error)), traceback.format_exc()))
        return
    _answer(pipe, ModelsOpened(worker.models))
    while True:
        try:
            message = pickle.loads(pipe.recv_bytes())
        except EOFError:
            return
        if isinstance(message, frozenset):  # what was wanted of a batch, which came when that was done
            continue
        try:
            _answer(pipe, BatchComputed(worker.run(message, _Remote(pipe, len(message)))))
        except BrokenPipeError:
            return
        except Exception as error:
            _answer(pipe, WorkFailed(Failure.of(error), traceback.format_exc()))
