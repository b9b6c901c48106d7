"""How much the engine takes on, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineLimits:
    """How much, and for how long.

    Attributes:
        queue: jobs that may wait.
        batch: outputs that are computed at once; a job with more is computed alone.
        timeout: seconds that a job may be computed for.
        keep_jobs: finished jobs that are remembered.
        keep_bytes: that these may hold, as pixels and inputs; the newest is remembered whatever its size.
        keep_seconds: for how long.
    """

    queue: int = 32
    batch: int = 8
    timeout: float = 120
    keep_jobs: int = 256
    keep_bytes: int = 256 * 2**20
    keep_seconds: float = 600
