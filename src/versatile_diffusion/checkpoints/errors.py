"""What goes wrong with checkpoints."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager

SHOWN = 5
_LONGEST = 300  # characters of what a library says


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, of another model, or lacks what was asked for. The message says what to do."""


class MissingFlowError(CheckpointError):
    """A model has no layers or no encoders for a flow that was asked for."""


class UnavailableError(CheckpointError, OSError):
    """Something that has to come over the network cannot be had. The message says how to bring it here."""


def first_few(names: Iterable[object]) -> str:
    """Returns the first few names, and how many more there are."""
    listed = [shortened(name) for name in names]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


def shortened(said: object) -> str:
    """Returns what a file or a library says, in one line that is no longer than a message can bear."""
    line = " ".join(str(said).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"


@contextmanager
def reading(where: object) -> Generator[None]:
    """Says of a file or a folder, whatever goes wrong in reading it, that it cannot be read.

    What libraries raise of contents that they do not expect is of any kind: damaged files of other people must not end
    in a traceback of ours.

    Raises:
        CheckpointError: instead of any other error, except that a library is missing.
    """
    try:
        yield
    except (CheckpointError, ImportError):
        raise
    except OSError as error:
        raise CheckpointError(f"{where} cannot be read: {shortened(error)}.") from error
    except Exception as error:
        raise CheckpointError(
            f"{where} cannot be read ({type(error).__name__}: {shortened(error)}). It is damaged, or of another kind "
            "than its name says: download it again, or pass another."
        ) from error
