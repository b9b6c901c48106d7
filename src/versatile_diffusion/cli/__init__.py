# pyright: strict
"""The `vd` command. Nothing here imports PyTorch before a command runs, so that `vd --help` answers at once."""

import gc
import os

# What is imported stays. Looking through it for what could be freed, again and again, takes a tenth of a short command.
gc.set_threshold(50_000, 20, 50)

# A thread of GNU's OpenMP that waits for another turns in circles. Beside a busy process it should soon give its core
# away, or two threads on two cores take ten to a hundred times as long; alone this costs nothing.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from versatile_diffusion.cli.app import app, main  # noqa: E402 - imports what heeds these settings

__all__ = ["app", "main"]
