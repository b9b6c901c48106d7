"""Linear layers that oneDNN computes.

On the CPU, PyTorch gives products in float32 to another library, which takes up to three times as long where few rows
meet large weights, as in a stream of vectors or in a decoder that writes token by token, and a fifth longer where many
do (`benchmarks/products.py products`). In bfloat16 it is oneDNN's turn in any case.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

LARGE = 2**18
"""Weights that a layer must have for the detour to pay."""

_ONEDNN: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def linear(
    rows: Float[Tensor, "*b i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, "o"] | None = None
) -> Float[Tensor, "*b o"]:
    """Returns what `torch.nn.functional.linear` does, quicker on the CPU where no gradient is asked for."""
    if _pays(rows, weight):
        return _ONEDNN(rows, weight, bias, "none", [], "")
    return functional.linear(rows, weight, bias)


def _pays(rows: Tensor, weight: Tensor) -> bool:
    return (
        weight.numel() >= LARGE
        and rows.numel() > 0
        and weight.device.type == "cpu"
        and rows.dtype == weight.dtype == torch.float32
        and weight.is_contiguous()
        and type(weight) in (Tensor, nn.Parameter)  # not quantised, for example
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and _ONEDNN is not None
    )


class LinearConv1D(nn.Module):
    """GPT-2's linear layer, with the parameters of one from transformers, which can be laid out for oneDNN."""

    def __init__(self, layer: Conv1D) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Returns what Conv1D does."""
        return linear(x, self.weight.t(), self.bias)

    def lay_out(self) -> None:
        """Keeps the weight in rows of its outputs from now on; its shape stays (inputs, outputs)."""
        if not self.weight.t().is_contiguous():
            self.weight.data = self.weight.data.t().contiguous().t()


def replace_layers(model: nn.Module) -> None:
    """Puts a `LinearConv1D` in place of every Conv1D."""
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, Conv1D):
                setattr(parent, name, LinearConv1D(layer))


def lay_out(model: nn.Module) -> None:
    """Lays out all such layers; one weight at a time, so that the model is never held twice."""
    for module in model.modules():
        if isinstance(module, LinearConv1D):
            module.lay_out()
