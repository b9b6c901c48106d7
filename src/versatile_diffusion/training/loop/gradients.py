"""The gradients of an update: those of all passes, summed on the parameters, the same in every process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from accelerate import Accelerator  # pyright: ignore[reportMissingTypeStubs] - accelerate has no types
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from versatile_diffusion.kernels.concurrency import at_once
from versatile_diffusion.training.loop.task import Pass


class PassGradients:
    """Computes passes and adds their gradients to the parameters.

    Args:
        parameters: that are trained.
        accelerator: of the processes that share the work.
        dtype: what passes are computed in.
        scaled: what is differentiated in the place of the sum of a pass's losses.
        shards: the model, if it is shared out among processes, which then reduce gradients themselves.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        accelerator: Accelerator,
        dtype: torch.dtype,
        scaled: Callable[[Tensor], Tensor],
        shards: FSDPModule | None,
    ) -> None:
        self.parameters, self.accelerator, self.dtype = parameters, accelerator, dtype
        self.scaled, self.shards = scaled, shards

    def add(self, passes: Sequence[Pass], last: bool) -> dict[str, float]:
        """Adds the gradients of passes, and returns their losses.

        Args:
            passes: of one batch.
            last: whether these are the last ones before the update: gradients of a model that is shared out are
                reduced once, after the last pass of all.
        """
        if self.shards is None:
            return self._sum(passes)
        values: dict[str, float] = {}
        for number, compute in enumerate(passes, start=1):
            self.shards.set_requires_gradient_sync(last and number == len(passes))
            losses, total = self._forward(compute)
            total.backward()  # pyright: ignore[reportUnknownMemberType] - torch leaves parameters untyped
            values |= {name: loss.item() for name, loss in losses.items()}
        return values

    def autocast(self) -> AbstractContextManager[object]:
        """Returns a context within which is computed in the precision of the passes."""
        return torch.autocast(self.accelerator.device.type, self.dtype, enabled=self.dtype is not torch.float32)

    def share(self) -> None:
        """Averages gradients over all processes, in one message, unless the model is shared out."""
        if self.accelerator.num_processes == 1 or self.shards is not None:
            return
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        message = self.accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - accelerate has no types
        assert isinstance(message, Tensor)
        start = 0
        for gradient in gradients:
            gradient.copy_(message[start : start + gradient.numel()].view(gradient.shape))
            start += gradient.numel()

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Averages losses over all processes."""
        if self.accelerator.num_processes == 1:
            return dict(values)
        told = torch.tensor(list(values.values()), device=self.accelerator.device)
        means: Tensor = self.accelerator.reduce(told, "mean")  # pyright: ignore - accelerate has no types
        return dict(zip(values, map(float, means), strict=True))

    def _sum(self, passes: Sequence[Pass]) -> dict[str, float]:
        values: dict[str, float] = {}
        for losses, gradients in at_once(self._differentiate, passes, self.accelerator.device):
            values.update(losses)
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
            del gradients  # before the next pass makes its own
        return values

    def _differentiate(self, compute: Pass) -> tuple[dict[str, float], tuple[Tensor | None, ...]]:
        """Losses of a pass, and the gradient of their sum for each parameter that it uses."""
        losses, total = self._forward(compute)
        gradients = torch.autograd.grad(total, self.parameters, allow_unused=True)
        return {name: loss.item() for name, loss in losses.items()}, gradients

    def _forward(self, compute: Pass) -> tuple[Mapping[str, Tensor], Tensor]:
        """Losses of a pass, and what is differentiated."""
        with self.autocast():
            losses = compute()
        return losses, self.scaled(torch.stack([loss.float() for loss in losses.values()]).sum())
