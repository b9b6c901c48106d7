"""Processes that tests start, wait for and kill.

They are forked from a server that has imported the package once, where shapes are not checked: such a process is one
of its own in all that matters here (its memory, its files, its signals and its end), but begins at once, where a new
Python would import libraries for seconds. All workers of pytest-xdist share one server, which is started before them;
without workers the first test that needs it starts it. What such a process would spawn comes from the server as well.
"""

import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.context import BaseContext, ForkServerContext, ForkServerProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

IMPORTED = (
    "versatile_diffusion.cli.batch_job",
    "versatile_diffusion.engine.isolation",
    "versatile_diffusion.pipeline.pipeline",
    "versatile_diffusion.studio.page",
    "versatile_diffusion.worlds.postcards.training",
    "diffusers.pipelines.deprecated.versatile_diffusion.pipeline_versatile_diffusion",
    "transformers.models.clip.modeling_clip",
    "transformers.models.gpt2.modeling_gpt2",
)


def no_curves(_: object) -> list[str]:
    """Draws nothing, in the place of what draws the curves of a page."""
    return []


SHORTER: dict[str, dict[str, Any]] = {
    "versatile_diffusion.training.tasks.diffuser": {"PREVIEW_STEPS": 1, "PREVIEWED": 2, "VALIDATED": 8},
    "versatile_diffusion.training.tasks.kl_autoencoder": {"PREVIEWED": 2},
    "versatile_diffusion.training.tasks.optimus": {"PREVIEWED": 2},
    "versatile_diffusion.training.report.run_page": {"curves_of_page": no_curves},
    "versatile_diffusion.training.own_data.stages_page": {"curves_of_stages": no_curves},
}
"""What is shown of a training run, and measured on the way, is less in tests, of which none asks how good it is."""

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(list(IMPORTED))
_FORKSERVER: Any = multiprocessing.forkserver._forkserver
_SHARED = ("_forkserver_address", "_forkserver_authkey")
"""What a process must know of the server to ask it for another; the second is from Python 3.14 on."""
_get_context = multiprocessing.get_context


@dataclass(frozen=True)
class Running:
    """A process, and the files that hold what it says."""

    process: BaseProcess
    said: Path

    @property
    def stdout(self) -> str:
        return (self.said / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.said / "stderr").read_text()

    @property
    def started(self) -> list[int]:
        """The processes that it has started, by their ids, the newest last."""
        file = self.said / "started"
        return list(map(int, file.read_text().split())) if file.exists() else []

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.exitcode is None

    @property
    def returncode(self) -> int:
        """Its exit code, or minus the signal that ended it; waits for its end."""
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode

    def send(self, signal: int) -> None:
        os.kill(self.pid, signal)

    def kill(self) -> None:
        self.process.kill()


def shorten(put: Callable[[Any, str, Any], object]) -> None:
    """Puts what SHORTER says into its modules, with a function such as `setattr`."""
    for module, values in SHORTER.items():
        for name, value in values.items():
            put(import_module(module), name, value)


def server() -> dict[str, Any]:
    """Starts the server, unless it runs, and returns what another process must know of it."""
    _FORKSERVER.ensure_running()
    return {name: getattr(_FORKSERVER, name, None) for name in _SHARED}


def use_server(known: Mapping[str, object]) -> None:
    """Takes a server that another process has started, and that ends with that process."""
    for name, value in known.items():
        setattr(_FORKSERVER, name, value)
    if _FORKSERVER._forkserver_alive_fd is None:
        _FORKSERVER._forkserver_alive_fd = os.pipe()[1]
    _FORKSERVER.ensure_running = lambda: None  # this process does not know that it runs


def start(function: Callable[..., object], *arguments: object, environment: Mapping[str, str] | None = None) -> Running:
    """Calls a function of a module in a process of its own, which works in the folder that this one is in."""
    said = Path(tempfile.mkdtemp(prefix="said-"))
    process = _SERVER.Process(target=_begin, args=(said, server(), dict(environment or {}), function, arguments))
    process.start()
    return Running(process, said)


def start_vd(*arguments: object, environment: Mapping[str, str] | None = None) -> Running:
    """Runs `vd` in a process of its own."""
    return start(vd, *map(str, arguments), environment=environment)


def together(function: Callable[..., object], *arguments: object, count: int = 2) -> list[Running]:
    """Calls a function in several processes that know of each other, as `accelerate launch` starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "CUDA_VISIBLE_DEVICES": "",
    }
    ranks = ({"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count))
    return [start(function, *arguments, environment=common | rank) for rank in ranks]


def vd(*arguments: str) -> None:
    """The `vd` command, with these arguments."""
    from versatile_diffusion.cli import main

    sys.argv = ["vd", *arguments]
    main()


def python(*arguments: str) -> None:
    """What `python -c CODE`, `python -m MODULE …` or `python FILE …` does, without a new Python."""
    if arguments[0] == "-c":
        exec(arguments[1], {"__name__": "__main__"})
        return
    module = arguments[0] == "-m"
    sys.argv = list(arguments[module:])
    (runpy.run_module if module else runpy.run_path)(sys.argv[0], run_name="__main__")


class ForkedPopen:
    """Takes the place of `subprocess.Popen` for commands of this Python, with what the package uses of it."""

    def __init__(self, command: Sequence[object], **options: Any) -> None:
        assert command[0] == sys.executable, command
        self.running = start(python, *map(str, command[1:]))
        self.errors: Any = options.get("stderr")

    @property
    def stdout(self) -> Iterator[str]:
        """Lines, once they are all there."""
        self.wait()
        return iter(self.running.stdout.splitlines(keepends=True))

    def poll(self) -> int | None:
        return self.running.process.exitcode

    def terminate(self) -> None:
        self.running.process.terminate()

    def wait(self) -> int:
        code = self.running.returncode
        if hasattr(self.errors, "write"):
            self.errors.write(self.running.stderr)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.running.kill()


def forked_run(command: Sequence[object], **options: Any) -> subprocess.CompletedProcess[str]:
    """Takes the place of `subprocess.run` for commands of this Python, with what the package uses of it."""
    process = ForkedPopen(command)
    return subprocess.CompletedProcess(
        list(map(str, command)), process.wait(), process.running.stdout, process.running.stderr
    )


def forked_context(method: str | None = None) -> BaseContext:
    """Takes the place of `multiprocessing.get_context`: what is to be spawned is forked from the server."""
    return _SERVER if method == "spawn" else _get_context(method)


class _Sibling(ForkServerProcess):
    """A process that one from the server has started: the server forks this one, too."""

    said: ClassVar[Path]

    def start(self) -> None:
        super().start()
        with (self.said / "started").open("a") as started:
            started.write(f"{self.pid}\n")


def _begin(
    said: Path,
    known: Mapping[str, object],
    environment: Mapping[str, str],
    function: Callable[..., object],
    arguments: Sequence[object],
) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.update(environment)
    _share(known, said)
    shorten(setattr)
    try:
        function(*arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _share(known: Mapping[str, object], said: Path) -> None:
    """Has the server fork what this process, which is its child, would spawn, and what starts as this one did."""
    use_server(known)
    _Sibling.said = said
    ForkServerContext.Process = _Sibling
    multiprocessing.get_context = lambda method=None: _get_context("forkserver" if method == "spawn" else method)
