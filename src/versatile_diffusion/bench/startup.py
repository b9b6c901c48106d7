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

IMPORT_TORCH = "import torch"
"""What all else is compared with: no command that computes can be quicker."""
_CODE = {"Python alone": "pass"} | {code: code for code in ("import versatile_diffusion", IMPORT_TORCH)}
_LIMITS = {"import versatile_diffusion": 0.3, "vd --help": 0.5}
_RATIOS = {"vd text-to-image": 2.5, "vd serve, ready": 4.0, "vd app, ready": 4.0}
"""How many times as long as `import torch` something may take."""
_PROMPT = "a red tent"


def measure(settings: Settings) -> Result:
    """Times whole processes, from their start to their end or to their first answer."""
    commands = {name: ["-c", code] for name, code in _CODE.items()}
    commands["vd --help"] = ["-m", "versatile_diffusion.cli", "--help"]
    works: dict[str, Callable[[int], float]] = {
        name: lambda _, arguments=arguments: _run(arguments) for name, arguments in commands.items()
    }
    works["vd text-to-image"] = lambda _: _draw(settings.model)
    works["vd serve, ready"] = lambda _: _answers("/healthz", "serve", "--model", settings.model)
    works["vd app, ready"] = lambda _: _app(settings.model)
    compile_byte_code(works)
    found = {name: [run.output for run in runs] for name, runs in alternate(works, settings.rounds).items()}
    figures = [Figure(name, "s", seconds, at_most=_LIMITS.get(name)) for name, seconds in found.items()]
    for name, limit in _RATIOS.items():
        ratios = [each / torch for each, torch in zip(found[name], found[IMPORT_TORCH], strict=True)]
        figures.append(Figure(f"{name} / {IMPORT_TORCH}", "×", ratios, at_most=limit))
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


def _draw(model: str) -> float:
    """Makes an image in a process of its own, and returns the seconds until it is written."""
    with tempfile.TemporaryDirectory() as folder:
        output = ["--output", f"{folder}/tent.png"]
        return _run(["-m", "versatile_diffusion.cli", "text-to-image", _PROMPT, "--model", model, *output])


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
