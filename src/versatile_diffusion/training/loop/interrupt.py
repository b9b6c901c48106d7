"""Ctrl-C, held back until it does no harm."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self


class HeldInterrupt:
    """Within this context a first Ctrl-C only sets `pending`; a second one interrupts at once.

    Outside the main thread, which alone receives signals, nothing is held back.
    """

    def __init__(self) -> None:
        self.pending = False
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._hold)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _hold(self, _signal: int, _frame: FrameType | None) -> None:
        if self.pending:
            raise KeyboardInterrupt
        self.pending = True
