"""Extras of the package, which some commands need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Says which extra to install where an import fails.

    Args:
        name: of the extra.
        what: needs it.

    Raises:
        ImportError: if a module is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(f"{error}. Install what {what} needs: pip install 'versatile-diffusion[{name}]'") from error
