"""Functions of rows, applied to some rows at a time, so that what lies between stays in the cache.

In a feed-forward layer that is eight times as wide as its input, a quarter of the time is memory's
(`benchmarks/products.py rows`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

CACHED = 4 * 2**20
"""Bytes that stay in the cache."""

_FEWEST = 256  # a product of fewer rows is slower


def by_rows(function: Callable[[Tensor], Tensor], x: Float[Tensor, "*b c"], width: int) -> Float[Tensor, "*b c"]:
    """Computes `function(x)`, quicker on the CPU where no gradient is asked for.

    Args:
        function: of rows, each by itself, that keeps their width.
        x: many rows.
        width: of what lies between.
    """
    rows = max(CACHED // (width * x.element_size()), _FEWEST)
    many = x.shape[:-1].numel() > rows and x.device.type == "cpu" and type(x) is Tensor  # not a fake one
    if not many or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return function(x)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    parts, parts_made = (torch.split(whole.flatten(0, -2), rows) for whole in (x, out))
    for part, made in zip(parts, parts_made, strict=True):
        made.copy_(function(part))
    return out


class FeedForwardByRows(nn.Sequential):
    """A feed-forward layer that is computed for some rows at a time. It holds the layers of the one it stands for.

    Args:
        layer: what it stands for.
        width: of the rows where they are widest.
    """

    def __init__(self, layer: nn.Sequential, width: int) -> None:
        super().__init__(OrderedDict(layer.named_children()))
        self.training = layer.training
        self.rows_width: int = width

    def forward(self, input: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """Returns what all layers make of the rows, one after the other."""
        return by_rows(self._all_layers, input, self.rows_width)

    def _all_layers(self, rows: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        for layer in self:
            rows = layer(rows)
        return rows

    def whole(self) -> nn.Sequential:
        """Returns what it stands for."""
        layer = nn.Sequential(OrderedDict(self.named_children()))
        layer.training = self.training
        return layer


def compute_by_rows(network: nn.Module) -> None:
    """Replaces feed-forward layers on the CPU, which are an nn.Sequential of two linear layers and what is between."""
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if type(layer) is nn.Sequential and (width := _feed_forward_width(layer)) is not None:
                setattr(parent, name, FeedForwardByRows(layer, width))


def compute_whole(network: nn.Module) -> None:
    """Brings back what `compute_by_rows` replaced."""
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, FeedForwardByRows):
                setattr(parent, name, layer.whole())


def _feed_forward_width(layer: nn.Sequential) -> int | None:
    """Returns how wide a layer is inside, if each row that comes out is made of one that goes in, and as wide."""
    if len(layer) != 3:
        return None
    first, between, last = (getattr(part, "base_layer", part) for part in layer)  # or what LoRAs change
    if not isinstance(first, nn.Linear) or not isinstance(last, nn.Linear) or any(True for _ in between.parameters()):
        return None
    joins_no_rows = last.in_features in (first.out_features, first.out_features // 2)  # as a gate halves
    fits = joins_no_rows and first.in_features == last.out_features and first.weight.device.type == "cpu"
    return first.out_features if fits else None
