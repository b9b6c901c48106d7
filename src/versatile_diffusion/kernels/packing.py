"""Layers whose weights are laid out for the CPU once, instead of at every call.

oneDNN computes from weights in blocks. Where few rows or pixels meet a large weight, laying it out takes as long as
the product itself (`benchmarks/products.py packing`). What comes out is the same; 3×3 convolutions in float32, which
`winograd` computes, round otherwise.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from versatile_diffusion.kernels import linear, winograd
from versatile_diffusion.kernels.memory import give_back

LARGE = 2**19
"""Weights that a convolution must have for it to pay: those of few channels are quicker with their channels first."""

_SEES_NEIGHBOURS = (3, 3), (1, 1), (1, 1), (1, 1), 1  # kernel, padding, stride, dilation and groups
_GIVEN_BACK = 2**26
"""Bytes of freed weights that are returned to the system at once."""

_LIKELY = 16, 16  # pixels, which oneDNN is told: without it, pointwise convolutions are laid out for the worst


def pack(model: nn.Module) -> None:
    """Replaces convolutions and linear layers on the CPU by packed ones, one at a time: little is held twice.

    Layers with LoRAs stay: PEFT needs their weights. What was packed and brought elsewhere is packed anew.
    """
    freed = 0
    for parent in _outside_loras(model):
        for name, layer in parent.named_children():
            if isinstance(layer, PackedLayer) and not layer.is_packed:
                layer = layer.unpacked()
                setattr(parent, name, layer)
            packed = _packed(layer)
            if packed is not None:
                setattr(parent, name, packed)
                freed = _freed(packed, freed)


def unpack(model: nn.Module) -> None:
    """Brings back what `pack` replaced."""
    freed = 0
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, PackedLayer):
                setattr(parent, name, layer.unpacked())
                freed = _freed(layer, freed)


def _freed(layer: PackedLayer, before: int) -> int:
    """Counts the bytes that layers have freed. They are given back in large pieces: each time takes milliseconds."""
    freed = before + layer.weight.nbytes
    if freed < _GIVEN_BACK:
        return freed
    give_back()
    return 0


def _outside_loras(model: nn.Module) -> list[nn.Module]:
    """All modules but layers with LoRAs, and what is in these."""
    if hasattr(model, "base_layer"):
        return []
    return [model, *(module for child in model.children() for module in _outside_loras(child))]


def _packed(layer: nn.Module) -> PackedLayer | None:
    if isinstance(layer, nn.Linear | linear.LinearConv1D) and _is_packable(layer.weight):
        # PyTorch gives smaller ones in float32 to another library, which rounds otherwise.
        alike = layer.weight.dtype == torch.bfloat16 or layer.weight.numel() >= linear.LARGE
        cls = PackedLinear if isinstance(layer, nn.Linear) else PackedConv1D
        return cls(layer) if alike else None
    if type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        return _packed_convolution(layer) if layer.weight.numel() >= LARGE and _is_packable(layer.weight) else None
    return None


def _packed_convolution(layer: nn.Conv2d) -> PackedLayer | None:
    if layer.weight.dtype != torch.float32:
        return PackedConv2d(layer)
    if (layer.kernel_size, layer.padding, layer.stride, layer.dilation, layer.groups) == _SEES_NEIGHBOURS:
        return WinogradConv2d(layer)
    # A pointwise one gains nothing, and loses much where pixels are not as many as is likely.
    return None if layer.kernel_size == (1, 1) else PackedConv2d(layer)


def _is_packable(weight: Tensor) -> bool:
    usable = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    if not usable or weight.device.type != "cpu" or type(weight) not in (Tensor, nn.Parameter):  # quantised ones
        return False
    return weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


class PackedLayer(nn.Module):
    """A layer that computes, and is saved, as before, but has no weight to train. Brought elsewhere, it is unpacked.

    Args:
        layer: what it stands for.
    """

    weight: Tensor
    bias: nn.Parameter | None

    def __init__(self, layer: nn.Linear | nn.Conv2d | linear.LinearConv1D) -> None:
        super().__init__()
        self.bias = cast("nn.Parameter | None", layer.bias)  # which a convolution's type leaves out
        self.weight = self.pack(layer.weight.detach())
        self.training = False
        self._was_trained = layer.weight.requires_grad
        self._original = (layer,)  # in a tuple, so as not to be a part of this one
        layer.register_parameter("weight", None)

    @abstractmethod
    def pack(self, weight: Tensor) -> Tensor:
        """Returns a weight, laid out."""

    @property
    def is_packed(self) -> bool:
        """Tells whether it has not been brought elsewhere."""
        return self.weight.is_mkldnn

    def dense(self) -> Tensor:
        """Returns the weight as it was."""
        return self.weight.to_dense() if self.is_packed else self.weight

    def unpacked(self) -> nn.Module:
        """Returns the layer that it stands for. This one is of no use any more."""
        (layer,) = self._original
        layer.register_parameter("weight", nn.Parameter(self.dense(), self._was_trained))
        layer.register_parameter("bias", self.bias)
        return layer.train(self.training)

    def train(self, mode: bool = True) -> PackedLayer:
        """Changes the mode as nn.Module does; raises RuntimeError for training, since its weight is no parameter."""
        if mode:
            raise RuntimeError("The model is packed: call `unpack` before it is trained.")
        return super().train(mode)

    def _is_usable(self) -> bool:
        return self.is_packed and not torch.is_grad_enabled()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "weight": self.dense()}

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(state)  # pyright: ignore[reportUnknownMemberType] - untyped in PyTorch
        if _is_packable(self.weight):
            self.weight = self.pack(self.weight)

    def _save_to_state_dict(self, destination: dict[str, Tensor], prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = self.dense()
        super()._save_to_state_dict(  # pyright: ignore[reportUnknownMemberType] - untyped in PyTorch
            destination, prefix, keep_vars
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedLayer:
        here = torch.empty(0, dtype=self.weight.dtype, device=self.weight.device)
        there = fn(here)
        if (there.device, there.dtype) != (here.device, here.dtype):
            self.weight = fn(self.dense())
        return super()._apply(fn, recurse)  # pyright: ignore[reportUnknownMemberType] - untyped in PyTorch


class PackedLinear(PackedLayer):
    """A linear layer whose weight is laid out."""

    def pack(self, weight: Float[Tensor, "o i"]) -> Tensor:
        """Returns a weight, laid out."""
        return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)

    def rows(self) -> Float[Tensor, "o i"]:
        """Returns the weight as it was, a row for each output."""
        return self.dense()

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Returns what nn.Linear does."""
        if self._is_usable():
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return linear.linear(x, self.rows(), self.bias)


class PackedConv1D(PackedLinear):
    """Stands for a `LinearConv1D`, whose weight is (inputs, outputs), with its weight laid out."""

    def pack(self, weight: Float[Tensor, "i o"]) -> Tensor:
        """Returns a weight, laid out."""
        return super().pack(weight.t())

    def dense(self) -> Tensor:
        """Returns the weight as it was."""
        return self.weight.to_dense().t() if self.is_packed else self.weight

    def rows(self) -> Float[Tensor, "o i"]:
        """Returns the weight as it was, a row for each output."""
        return self.dense().t()


class PackedConv2d(PackedLayer):
    """A convolution whose weight is laid out."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self._how = (layer.padding, layer.stride, layer.dilation, layer.groups)
        super().__init__(layer)

    def pack(self, weight: Float[Tensor, "o i h w"]) -> Tensor:
        """Returns a weight, laid out."""
        likely = (2, weight.shape[1] * self._how[-1], *_LIKELY)
        return torch.ops.aten.mkldnn_reorder_conv2d_weight(weight.to_mkldnn(), *self._how, likely)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Returns what nn.Conv2d does."""
        padding, stride, dilation, groups = self._how
        x = x.contiguous(memory_format=torch.channels_last)
        if self._is_usable():
            return torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *self._how, "none", [], "")
        return functional.conv2d(x, self.dense(), self.bias, stride, padding, dilation, groups)


class WinogradConv2d(PackedLayer):
    """A convolution of 3×3 in float32, with a padding of 1, that `winograd` computes where pixels are many."""

    def pack(self, weight: Float[Tensor, "o i 3 3"]) -> Tensor:
        """Returns a weight, laid out."""
        return weight.contiguous(memory_format=torch.channels_last)

    @property
    def is_packed(self) -> bool:
        """Tells whether it is where `winograd` computes."""
        return self.weight.device.type == "cpu" and self.weight.dtype == torch.float32

    def dense(self) -> Tensor:
        """Returns the weight as it was."""
        return self.weight.contiguous()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Returns what nn.Conv2d does."""
        if self._is_usable() and winograd.count_tiles(x) >= winograd.MANY:
            return winograd.convolve(x, self.weight, self.bias)
        return functional.conv2d(x, self.weight, self.bias, padding=1)
