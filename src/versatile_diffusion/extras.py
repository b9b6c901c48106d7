"""Libraries that only some features need, and what libraries tell without being asked."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from logging import ERROR, getLogger

_TALKATIVE = ("torchao", "torch.utils._pytree", "diffusers.quantizers.torchao")
"""diffusers imports torchao wherever it is installed, which then tells of kernels that nobody asked for."""


def silence_imports() -> None:
    """Leaves out news that are not for users."""
    for logger in map(getLogger, _TALKATIVE):
        if logger.level != ERROR:  # setting it makes all loggers of the process ask for their levels anew
            logger.setLevel(ERROR)


def silence_opening() -> None:
    """Leaves out what the libraries that models are opened with tell of it, and their progress bars."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def require(library: str, what: str, extra: str) -> None:
    """Raises ImportError, which says that `what` needs the library, unless that is installed with the extra."""
    if find_spec(library) is None:
        raise ImportError(f"{what} needs {library}: pip install 'versatile-diffusion[{extra}]'")


@contextmanager
def extra(name: str, what: str) -> Generator[None, None, None]:
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
