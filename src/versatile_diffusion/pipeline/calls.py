"""Calls of a pipeline that are under way. Each may be interrupted without the others, which run in other threads."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import get_ident


@dataclass
class Call:
    """One call.

    Attributes:
        interrupted: whether it is to stop after its next step.
    """

    interrupted: bool = False


class Calls:
    """The calls of one pipeline by the thread that each runs in."""

    def __init__(self) -> None:
        self._running: dict[int, Call] = {}

    @contextmanager
    def begun(self) -> Generator[Call, None, None]:
        """Returns a new call of this thread, until it ends."""
        thread = get_ident()
        before, call = self._running.get(thread), Call()
        self._running[thread] = call
        try:
            yield call
        finally:
            if before is None:
                del self._running[thread]
            else:
                self._running[thread] = before

    @property
    def interrupted(self) -> bool:
        """Whether the call of this thread is to stop; False if there is none."""
        call = self._running.get(get_ident())
        return call is not None and call.interrupted

    def interrupt(self, value: bool) -> None:
        """Tells this thread's call whether to stop; from a thread without one, all calls."""
        own = self._running.get(get_ident())
        for call in list(self._running.values()) if own is None else [own]:
            call.interrupted = value
