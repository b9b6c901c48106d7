"""Muon, for the kernels of convolutions as well as for matrices."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

COEFFICIENTS = 3.4445, -4.7750, 2.0315
"""Of the polynomial that draws singular values towards 1, steepest at 0 (Keller Jordan's Muon)."""
ITERATIONS = 5
SMALLEST = 1e-7


class Muon(Optimizer):
    """Steps that are equally long in all directions of a matrix (arXiv 2502.16982), and as long as those of AdamW.

    PyTorch's own takes matrices alone, and computes in bfloat16, 30 times as long on CPUs without it. A kernel is
    taken as the matrix that turns the patch below it into the channels of its output.

    Args:
        parameters: of two dimensions or more.
        weight_decay: of all of them.
        momentum: share of the mean of past gradients that stays at each step.
    """

    def __init__(self, parameters: Iterable[Tensor], weight_decay: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": 0.0, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - no closures
        """Changes all parameters that have gradients."""
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                mean = state["momentum_buffer"].lerp_(parameter.grad, 1 - momentum)
                ahead = parameter.grad.lerp(mean, momentum).flatten(1)
                change = orthogonal(ahead) * (0.2 * math.sqrt(max(ahead.shape)))  # as long as AdamW's usual steps
                parameter.mul_(1 - rate * group["weight_decay"])
                parameter.add_(change.view_as(parameter), alpha=-rate)


def orthogonal(matrix: Float[Tensor, "a b"]) -> Float[Tensor, "a b"]:
    """Returns a matrix of the same directions whose singular values are near 1, by Newton–Schulz iterations."""
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16() if matrix.is_cuda else matrix
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.t()
    x = x / x.square().sum().sqrt().clamp(min=SMALLEST)
    for _ in range(ITERATIONS):
        gram = x @ x.t()
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x if wide else x.t()).to(matrix.dtype)
