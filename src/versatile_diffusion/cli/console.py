# pyright: strict
"""What the user reads: results on stdout, everything else on stderr."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

from versatile_diffusion.validation import shortened


class ResultsConsole(Console):
    """Goes on if nobody reads any more, as after `| head`: what was made is still to be written."""

    def on_broken_pipe(self) -> None:
        """Leaves out what comes from now on."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


results = ResultsConsole(soft_wrap=True, highlight=False)
messages = Console(stderr=True, soft_wrap=True, highlight=False)


def show_whatever_is_said() -> None:
    """Shows characters that no text may have, such as those of odd file names, as escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str, style: str = "dim") -> None:
    """Shows a remark."""
    messages.print(Text(text, style))


def note(text: str) -> None:
    """Shows something that the user should know."""
    messages.print(Text.assemble(("Note: ", "bold yellow"), shortened(text)))


def error(text: str) -> None:
    """Shows what went wrong, and what to do."""
    messages.print(Text.assemble(("Error: ", "bold red"), shortened(text)))


@contextmanager
def warnings_as_notes() -> Generator[None]:
    """Shows what the pipeline warns of as notes, each once. Libraries' warnings to programmers are left out."""
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any) -> None:
        if category is UserWarning and str(message) not in shown:
            shown.add(str(message))
            note(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield
