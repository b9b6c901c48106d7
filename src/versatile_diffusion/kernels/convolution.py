"""Convolutions whose weights oneDNN has laid out once, instead of at every call.

oneDNN computes from weights in blocks. Where a picture has few pixels for its channels, laying them out takes as long
as the convolution itself (`benchmarks/products.py convolutions`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d

FEW = 32 * 32
"""Pixels up to which it pays."""

_ONEDNN: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)


def pack(model: nn.Module) -> None:
    """Replaces convolutions on the CPU by packed ones. Those with LoRAs stay: PEFT needs their weights."""
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if name != "base_layer" and _is_packable(layer):
                setattr(parent, name, PackedConv2d(layer))


def _is_packable(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    if type(layer) is not nn.Conv2d or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return False
    weight = layer.weight
    return _ONEDNN is not None and weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.bfloat16)


class PackedConv2d(nn.Module):
    """A convolution that computes, and is saved, as before, but cannot be trained or go elsewhere.

    How the weight is laid out depends on the size of what it meets, so that is done at the first call; then the dense
    weight is let go of.

    Args:
        layer: what it stands for.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.bias = layer.bias
        self._how = (layer.padding, layer.stride, layer.dilation, layer.groups)
        self._weight = layer.weight.detach()
        self.requires_grad_(False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """See nn.Conv2d."""
        padding, stride, dilation, groups = self._how
        if x.shape[-1] * x.shape[-2] > FEW:
            return conv2d(x, self._dense(), self.bias, stride, padding, dilation, groups)
        if not self._weight.is_mkldnn:
            reorder = torch.ops.aten.mkldnn_reorder_conv2d_weight
            self._weight = reorder(self._weight.to_mkldnn(), padding, stride, dilation, groups, x.shape)
        return _ONEDNN(x, self._weight, self.bias, padding, stride, dilation, groups, "none", [], "")

    def _dense(self) -> Tensor:
        return self._weight.to_dense() if self._weight.is_mkldnn else self._weight

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = self._dense()
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedConv2d:
        here = torch.empty(0, dtype=self._weight.dtype)
        there = fn(here)
        if (there.device, there.dtype) != (here.device, here.dtype):
            raise RuntimeError(
                f"The model is packed for {here.dtype} on the CPU: open it anew for {there.dtype} on {there.device}."
            )
        return super()._apply(fn, recurse)
