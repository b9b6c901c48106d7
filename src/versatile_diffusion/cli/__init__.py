# pyright: strict
"""The `vd` command. Nothing here imports PyTorch before a command runs, so that `vd --help` answers at once."""

from versatile_diffusion.cli.app import app, main

__all__ = ["app", "main"]
