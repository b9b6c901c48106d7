"""What a CPU computes quicker than with PyTorch alone, applied to a network from outside."""

from versatile_diffusion.kernels.optimization import optimize, restore, run_elsewhere

__all__ = ["optimize", "restore", "run_elsewhere"]
