"""How long a user waits for an answer: whole processes, from start to end."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from urllib.error import URLError
from urllib.request import urlopen

from versatile_diffusion.bench.report import Figure, Result, Settings
from versatile_diffusion.bench.timing import alternate

_CODE = {"Python alone": "pass", "import versatile_diffusion": "import versatile_diffusion"}
_LIMITS = {"import versatile_diffusion": 0.3, "vd --help": 0.5, "vd serve, ready": 10, "vd app, ready": 10}


def measure(settings: Settings) -> Result:
    """Times whole processes, from their start to their end or to their first answer."""
    commands = {name: ["-c", code] for name, code in _CODE.items()}
    commands["vd --help"] = ["-m", "versatile_diffusion.cli", "--help"]
    works: dict[str, Callable[[int], float]] = {
        name: lambda _, arguments=arguments: _run(arguments) for name, arguments in commands.items()
    }
    works["vd serve, ready"] = lambda _: _answers("/healthz", "serve", "--model", settings.model)
    works["vd app, ready"] = lambda _: _app(settings.model)
    compile_byte_code(works)
    found = alternate(works, settings.rounds)
    figures = [
        Figure(name, "s", [run.output for run in runs], at_most=_LIMITS.get(name)) for name, runs in found.items()
    ]
    return Result("Start-up of whole processes", figures)


def compile_byte_code(works: Mapping[str, Callable[[int], float]]) -> None:
    """Runs each process once before any is timed, since Python compiles a module when it is first imported."""
    alternate(works, rounds=1)


def _run(arguments: list[str]) -> float:
    """Runs a process, and returns the seconds that it takes."""
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"python {' '.join(arguments)} failed: {done.stderr[-2000:]}")
    return time.perf_counter() - begun


def _app(model: str) -> float:
    """Starts the studio, and returns the seconds until it answers with its page."""
    with tempfile.TemporaryDirectory() as history:
        return _answers("/", "app", "--model", model, "--history", history)


def _answers(path: str, *command: str) -> float:
    """Starts a server, and returns the seconds until it answers at a path."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    arguments = ["-m", "versatile_diffusion.cli", *command, "--port", str(port)]
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            try:
                with urlopen(f"http://127.0.0.1:{port}{path}"):
                    return time.perf_counter() - begun
            except URLError:
                time.sleep(0.02)
        raise RuntimeError(f"python {' '.join(arguments)} failed with exit code {process.returncode}.")
    finally:
        process.terminate()
        process.wait()
