"""Memory of the host."""

from __future__ import annotations

import ctypes
import sys

_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def give_back() -> None:
    """Returns to the system what was freed, and what glibc would keep in pieces that fit nothing later."""
    if _TRIM is not None:
        _TRIM(ctypes.c_size_t(0))
