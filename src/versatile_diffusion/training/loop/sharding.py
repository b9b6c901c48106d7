"""A model whose parameters are shared out among processes: PyTorch's FSDP2.

Each process keeps its part of every parameter, of its average and of the optimizer's state. The whole of a unit is
brought together only while it computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor


def shard(model: nn.Module, units: Iterable[nn.Module], device: torch.device, dtype: torch.dtype) -> FSDPModule:
    """Shares the parameters of a model out among all processes, in place.

    Args:
        model: to be shared out.
        units: those of its modules that compute one after the other, inner ones first. The parameters of each are
            brought together at once.
        device: that this process computes on.
        dtype: what it computes in, and what parameters are brought together in. Gradients are reduced in float32.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    half = dtype is not torch.float32
    policy = MixedPrecisionPolicy(dtype if half else None, torch.float32 if half else None, cast_forward_inputs=False)
    for module in units:
        fully_shard(module, mesh=mesh, mp_policy=policy)
    shards = fully_shard(model, mesh=mesh, mp_policy=policy)
    for unit in model.modules() if half else ():
        if isinstance(
            unit, FSDPModule
        ):  # PyTorch 2.13 fails at the gradients of a pass that does not use a unit before
            unit.unshard()
            unit.reshard()
    return shards


def computing_part(module: nn.Module) -> nn.Module:
    """Returns the innermost part of a module that holds all of its parameters.

    What is around it may return views of what it computes, such as in another shape, which no unit may (FSDP2 brings
    parameters together for the gradients when it is asked for those of what the unit returned).
    """
    while True:
        holding = [child for child in module.children() if any(True for _ in child.parameters())]
        if len(holding) != 1 or any(True for _ in module.parameters(recurse=False)):
            return module
        (module,) = holding


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns tensors on the CPU, each brought together if it was shared out. All processes call it together."""
    return {name: _whole(tensor.detach()).cpu() for name, tensor in tensors.items()}


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
