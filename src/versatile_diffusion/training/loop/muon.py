"""Muon, for the kernels of convolutions as well as for matrices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from versatile_diffusion.kernels.concurrency import at_once

COEFFICIENTS = 3.4445, -4.7750, 2.0315
"""Of the polynomial that draws singular values towards 1, steepest at 0 (Keller Jordan's Muon)."""
ITERATIONS = 5
SMALLEST = 1e-7
GATHERED = 2
"""How many times as long as wide a matrix is from which on the iterations' products are gathered."""


class Muon(Optimizer):
    """Steps that are equally long in all directions of a matrix (arXiv 2502.16982), and as long as those of AdamW.

    PyTorch's own takes matrices alone, and computes in bfloat16, 30 times as long on CPUs without it. A kernel is
    taken as the matrix that turns the patch below it into the channels of its output.

    Args:
        parameters: of two dimensions or more.
        weight_decay: of all of them.
        momentum: share of the mean of past gradients that stays at each step.
        shared: whether all processes hold the same parameters and gradients. Each then finds the directions of some of
            them, and tells the others.
    """

    def __init__(
        self, parameters: Iterable[Tensor], weight_decay: float, momentum: float = 0.95, shared: bool = False
    ) -> None:
        super().__init__(parameters, {"lr": 0.0, "weight_decay": weight_decay, "momentum": momentum})
        self.shared = shared

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - no closures
        """Changes all parameters that have gradients."""
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            learnt = [parameter for parameter in group["params"] if parameter.grad is not None]
            ahead = [self._ahead(parameter, momentum) for parameter in learnt]
            directions = _told_to_all(ahead) if self.shared else _orthogonal_of_all(ahead)
            for parameter, direction in zip(learnt, directions, strict=True):
                length = 0.2 * math.sqrt(max(direction.shape))  # as long as AdamW's usual steps
                parameter.mul_(1 - rate * group["weight_decay"])
                parameter.add_(direction.view_as(parameter), alpha=-rate * length)

    def _ahead(self, parameter: Tensor, momentum: float) -> Float[Tensor, "a b"]:
        """Where gradients lead by Nesterov's momentum, as a matrix."""
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        assert parameter.grad is not None
        mean: Tensor = state["momentum_buffer"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(mean, momentum).flatten(1)


def _told_to_all(matrices: Sequence[Float[Tensor, "..."]]) -> Iterator[Float[Tensor, "a b"]]:
    """The directions of matrices, of which each process works out its part."""
    rank, count = torch.distributed.get_rank(), torch.distributed.get_world_size()
    own = _orthogonal_of_all(matrices[rank::count])
    directions = (next(own) if i % count == rank else torch.zeros_like(matrix) for i, matrix in enumerate(matrices))
    message = torch.cat([matrix.flatten() for matrix in directions])
    torch.distributed.all_reduce(message)  # pyright: ignore[reportUnknownMemberType] - torch leaves parameters untyped
    start = 0
    for matrix in matrices:
        yield message[start : start + matrix.numel()].view_as(matrix)
        start += matrix.numel()


def _orthogonal_of_all(matrices: Sequence[Float[Tensor, "..."]]) -> Iterator[Float[Tensor, "a b"]]:
    """`orthogonal` of each; several at once on the CPU, where each is too small for many threads.

    Matrices that are shared out among processes go one by one: the processes must meet in the same order.
    """
    if not matrices or any(isinstance(matrix, DTensor) for matrix in matrices):
        return map(orthogonal, matrices)
    return at_once(orthogonal, matrices, matrices[0].device)


def orthogonal(matrix: Float[Tensor, "a b"]) -> Float[Tensor, "a b"]:
    """Returns a matrix of the same directions whose singular values are near 1, by Newton–Schulz iterations.

    All of them multiply from the left, by polynomials of the matrix times its transpose. Of a matrix that is much
    longer than wide these small products are gathered, and multiply the long one once; not in bfloat16, in which
    they would lose what is small.
    """
    x = matrix.bfloat16() if matrix.is_cuda else matrix
    x = x if x.shape[0] <= x.shape[1] else x.t()
    x = x / x.square().sum().sqrt().clamp(min=SMALLEST)
    exact = x.dtype is not torch.bfloat16 and not isinstance(x, DTensor)  # which has no diagonal
    x = _gathered(x) if exact and x.shape[1] > GATHERED * x.shape[0] else _iterated(x)
    return (x if matrix.shape[0] <= matrix.shape[1] else x.t()).to(matrix.dtype)


def _iterated(x: Float[Tensor, "a b"]) -> Float[Tensor, "a b"]:
    linear, cubic, quintic = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.t()
        x = linear * x + (cubic * gram + quintic * (gram @ gram)) @ x
    return x


def _gathered(x: Float[Tensor, "a b"]) -> Float[Tensor, "a b"]:
    gram = x @ x.t()
    product = _polynomial(gram)
    factor = product
    for _ in range(ITERATIONS - 1):
        gram = factor @ gram @ factor
        factor = _polynomial(gram)
        product = factor @ product
    return product @ x


def _polynomial(gram: Float[Tensor, "a a"]) -> Float[Tensor, "a a"]:
    linear, cubic, quintic = COEFFICIENTS
    factor = cubic * gram + quintic * (gram @ gram)
    factor.diagonal().add_(linear)
    return factor
