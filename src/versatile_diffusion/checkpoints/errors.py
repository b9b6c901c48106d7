"""What goes wrong with checkpoints."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN = 5


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, of another model, or lacks what was asked for. The message says what to do."""


def first_few(names: Iterable[object]) -> str:
    """Returns the first few names, and how many more there are."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


class UnavailableError(CheckpointError, OSError):
    """Something that has to come over the network cannot be had. The message says how to bring it here."""
