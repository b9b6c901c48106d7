# pyright: strict
"""The `vd` command. Nothing here imports PyTorch before a command runs, so that `vd --help` answers at once."""

import gc
import os

# What is imported stays. Looking through it for what could be freed, again and again, takes a tenth of a short command.
gc.set_threshold(50_000, 20, 50)

# A thread that waits for another, beside a process that is busy, gives its core away. OpenMP's threads else turn in
# circles on it, and two on two cores with a busy neighbour take a hundred times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from versatile_diffusion.cli.app import app, main  # noqa: E402 - imports what heeds these settings

__all__ = ["app", "main"]
