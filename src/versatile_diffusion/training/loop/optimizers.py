"""What changes the weights by their gradients: AdamW, AdamW that keeps its moments in 8 bits, or Muon."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer

from versatile_diffusion.extras import require
from versatile_diffusion.training.loop.muon import Muon
from versatile_diffusion.training.settings.choices import OptimizerName


class ParameterOptimizer:
    """Takes the steps of a run, by one optimizer of PyTorch's interface or several that share the parameters.

    What it remembers is told and taken as plain tensors of the parameters' shapes: a checkpoint does not know in how
    many bits moments were kept, nor by how many processes.

    Args:
        name: which optimizer. Muon takes matrices and kernels of convolutions, and leaves other parameters to AdamW,
            at the same learning rate; see `Muon`.
        parameters: that are trained.
        weight_decay: of all of them.
        shared: see `Muon`.

    Raises:
        ImportError: if the optimizer is in a library that is not installed.
    """

    def __init__(
        self, name: OptimizerName, parameters: Sequence[Tensor], weight_decay: float, shared: bool = False
    ) -> None:
        self.parts = _made(name, parameters, weight_decay, shared)
        on_cpu = all(parameter.device.type == "cpu" for parameter in parameters)
        self._eager = name is OptimizerName.ADAMW_8BIT and on_cpu

    def step(self, learning_rate: float) -> None:
        """Changes all parameters that have gradients, and lets go of these."""
        for part in self.parts:
            for group in part.param_groups:
                if isinstance(group["lr"], Tensor):  # as torchao's optimizers keep it
                    group["lr"].fill_(learning_rate)
                else:
                    group["lr"] = learning_rate
            with self._as_written():
                part.step()  # pyright: ignore[reportUnknownMemberType] - torch leaves a parameter untyped
        self.zero_grad()

    def zero_grad(self) -> None:
        """Lets go of all gradients."""
        for part in self.parts:
            part.zero_grad()

    def memory(self, parameter: Tensor) -> dict[str, Tensor]:
        """Returns what is remembered of a parameter, by its name in PyTorch; of 8 bits a float32 copy.

        Such a copy holds all that there is: taken back, it becomes the same bits.
        """
        return {key: _told(value) for key, value in self._state(parameter).items()}

    @torch.no_grad()
    def remember(self, parameter: Tensor, name: str, tensor: Tensor) -> None:
        """Takes one of the tensors that `memory` returned of a parameter, with what was read into it since."""
        value = self._state(parameter)[name]
        if tensor is not value:
            _local(value).copy_(_local(tensor))

    def begin(self, parameters: Iterable[Tensor]) -> None:
        """Makes room for what is remembered of parameters, which there is none of before the first step."""
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        self.step(0.0)

    def _state(self, parameter: Tensor) -> Mapping[str, Tensor]:
        for part in self.parts:
            if parameter in part.state:
                state: Mapping[str, Tensor] = part.state[parameter]
                return state
        return {}

    def _as_written(self) -> AbstractContextManager[object]:
        """On the CPU torchao's steps are not compiled, which takes a compiler and longer than many steps."""
        return torch.compiler.set_stance("force_eager") if self._eager else nullcontext()


def require_optimizer(name: OptimizerName) -> None:
    """Raises ImportError if an optimizer is in a library that is not installed."""
    if name is OptimizerName.ADAMW_8BIT:
        require("torchao", "The optimizer adamw-8bit", "int8")


def _made(name: OptimizerName, parameters: Sequence[Tensor], weight_decay: float, shared: bool) -> list[Optimizer]:
    require_optimizer(name)
    match name:
        case OptimizerName.ADAMW:
            return [_adamw(parameters, weight_decay)]
        case OptimizerName.ADAMW_8BIT:
            from torchao.optim import AdamW8bit  # pyright: ignore[reportMissingTypeStubs] - there are none

            return [AdamW8bit(parameters, weight_decay=weight_decay)]
        case OptimizerName.MUON:
            matrices = [parameter for parameter in parameters if parameter.ndim > 1]
            others = [parameter for parameter in parameters if parameter.ndim <= 1]
            parts: list[Optimizer] = [_adamw(others, weight_decay)] if others else []
            return [*parts, Muon(matrices, weight_decay, shared=shared)] if matrices else parts


def _adamw(parameters: Sequence[Tensor], weight_decay: float) -> AdamW:
    return AdamW(parameters, weight_decay=weight_decay, fused=True)


def _local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _told(value: Tensor) -> Tensor:
    """A tensor as it is, or one of 8 bits in float32 on the CPU, since the device has no room for all of them."""
    local = _local(value)
    if not hasattr(local, "__tensor_flatten__"):  # PyTorch's mark of a tensor that is made of others
        return value
    widened = _widened(local)
    if isinstance(value, DTensor):
        widened = DTensor.from_local(
            widened, value.device_mesh, value.placements, run_check=False, shape=value.shape, stride=value.stride()
        )
    return widened.cpu()


def _widened(state: Any) -> Tensor:  # an OptimState8bit, which has no types
    """The numbers that 8 bits stand for: in each block, what is looked up for a code times the block's largest number.

    The lowest code of signed numbers is looked up as a little more than -1. Only the number from which the block's
    scale was taken, or one next to it, has this code, so that -1 is closer; and with it the scale is found again.
    """
    lookup: Tensor = state.qmap.clone()
    if state.signed:
        lookup[0] = -1
    values = lookup[state.codes.int()].view(len(state.scale), -1) * state.scale[:, None]
    return values.view(state.codes.shape)
