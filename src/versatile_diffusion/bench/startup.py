"""How long a user waits for an answer: whole processes, from start to end."""

from __future__ import annotations

import subprocess
import sys

from versatile_diffusion.bench.report import Figure, Result, Settings
from versatile_diffusion.bench.timing import alternate, seconds

_CODE = {"Python alone": "pass", "import versatile_diffusion": "import versatile_diffusion"}
_LIMITS = {"import versatile_diffusion": 0.3, "vd --help": 0.5}


def measure(settings: Settings) -> Result:
    """Times processes."""
    commands = {name: ["-c", code] for name, code in _CODE.items()}
    commands["vd --help"] = ["-m", "versatile_diffusion.cli", "--help"]
    works = {name: lambda _, arguments=arguments: _run(arguments) for name, arguments in commands.items()}
    alternate(works, rounds=1)  # byte code is compiled once
    found = alternate(works, settings.rounds)
    figures = [Figure(name, "s", seconds(runs), at_most=_LIMITS.get(name)) for name, runs in found.items()]
    return Result("Start-up of whole processes", figures)


def _run(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"python {' '.join(arguments)} failed: {done.stderr[-2000:]}")
