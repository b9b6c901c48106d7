"""Products of a few rows with large weights: a decoder that writes token by token, or a stream of vectors.

On the CPU such a product costs as much as reading the weights, if the library reads them once: the one of PyTorch does
so where the weights stand on the left, in rows of their outputs. The other way round takes up to twice as long, and a
1×1 convolution, which the official text stream has, ten times (`vd bench optimus diffuser`).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

FEW = range(2, 129)
"""Rows that pay, in float32, the one format that was measured; a single row is quick either way."""


def narrow_linear(rows: Float[Tensor, "*b i"], weight: Float[Tensor, "o i"]) -> Float[Tensor, "*b o"]:
    """The same as `linear`, quicker for a few rows on the CPU."""
    flat = rows.reshape(-1, rows.shape[-1])
    if not FEW.start <= len(flat) < FEW.stop or not _pays(weight):
        return linear(rows, weight)
    return (weight @ flat.contiguous().t()).t().contiguous().reshape(*rows.shape[:-1], -1)


def _pays(weight: Tensor) -> bool:
    plain = type(weight) in (Tensor, nn.Parameter)  # not quantised, for example
    return plain and weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.is_contiguous()


class NarrowLinear(nn.Linear):
    """A linear layer that is quick for a few rows, too."""

    def forward(self, input: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """See nn.Linear."""
        projected = narrow_linear(input, self.weight)
        return projected if self.bias is None else projected + self.bias


class NarrowConv1D(nn.Module):
    """GPT-2's linear layer, with the parameters of one from transformers, which can be laid out for a few rows."""

    def __init__(self, layer: Conv1D) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """See Conv1D."""
        return narrow_linear(x, self.weight.t()) + self.bias

    def lay_out(self) -> None:
        """Keeps the weight in rows of its outputs from now on; its shape stays (inputs, outputs)."""
        if not self.weight.t().is_contiguous():
            self.weight.data = self.weight.data.t().contiguous().t()


def replace_layers(model: nn.Module) -> None:
    """Puts a `NarrowConv1D` in place of every Conv1D."""
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, Conv1D):
                setattr(parent, name, NarrowConv1D(layer))


def lay_out(model: nn.Module) -> None:
    """Lays out all such layers; one weight at a time, so that the model is never held twice."""
    for module in model.modules():
        if isinstance(module, NarrowConv1D):
            module.lay_out()
