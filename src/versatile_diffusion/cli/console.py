# pyright: strict
"""What the user reads: results on stdout, everything else on stderr."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

from versatile_diffusion.validation import shortened

results = Console(soft_wrap=True, highlight=False)
messages = Console(stderr=True, soft_wrap=True, highlight=False)


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
