"""A model whose parameters are shared out among processes: PyTorch's FSDP2.

Each process keeps its part of every parameter, of its average and of the optimizer's state. The whole of a unit is
brought together only while it computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

Unit = tuple[nn.Module, tuple[str, ...]]
"""A module whose parameters are brought together at once, and the methods, besides forward, that compute with them."""


def shard(model: nn.Module, units: Iterable[Unit], device: torch.device) -> FSDPModule:
    """Shares the parameters of a model out among all processes, in place.

    Args:
        model: to be shared out.
        units: those of its modules that compute one after the other, inner ones first.
        device: that this process computes on.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for module, methods in units:
        fully_shard(module, mesh=mesh)
        for method in methods:
            register_fsdp_forward_method(module, method)
    return fully_shard(model, mesh=mesh)


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns tensors on the CPU, each brought together if it was shared out. All processes call it together."""
    return {name: _whole(tensor.detach()).cpu() for name, tensor in tensors.items()}


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
