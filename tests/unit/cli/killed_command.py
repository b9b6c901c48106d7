"""`vd` in a process of its own that is killed when it is about to finish writing for the nth time."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.processes import vd


def deadly(function: Callable[..., Any], survived: int) -> Callable[..., Any]:
    left = survived

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return function(*arguments, **options)

    return call


def deadly_vd(survived: int, *arguments: str) -> None:
    os.fsync = deadly(os.fsync, survived)
    Path.replace = deadly(Path.replace, survived)
    vd(*arguments)
