"""What makes a network quicker on the CPU, put in place from outside and taken away again.

A network is written with PyTorch's own layers and functions and knows nothing of this: layers are replaced by layers
that hold the same parameters under the same names, and functions that a layer holds as attributes by quicker ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from versatile_diffusion.kernels.attention import attention
from versatile_diffusion.kernels.concurrency import at_once
from versatile_diffusion.kernels.norms import compute_plain, compute_small
from versatile_diffusion.kernels.packing import pack, unpack
from versatile_diffusion.kernels.rows import compute_by_rows, compute_whole

Function = Callable[..., object]
_FORWARD = "_forward_elsewhere"
"""The attribute of a network that runs elsewhere."""
R = TypeVar("R")

Step = tuple[nn.Module, tuple[Tensor, Tensor]]
"""A layer, and the keys and values that it attends to."""


def optimize(network: nn.Module, *, training: bool = False) -> None:
    """Makes a network quicker on the CPU. Its outputs stay the same but for rounding, and it is saved as before.

    Weights of linear layers and convolutions are laid out once instead of at every call, feed-forward layers are
    computed by rows that stay in the cache, small images are normalised as contiguous ones, and what the network holds
    as an attribute is replaced: PyTorch's attention by ours, and `map` by what computes at once. What is not on the CPU
    stays as it is, and so does a compiled network.

    Args:
        network: to be changed; `restore` brings back what it was.
        training: whether to do only what leaves all weights to be trained: attention and norms.
    """
    if _FORWARD in vars(network) or any(getattr(part, "_compiled_call_impl", None) for part in network.modules()):
        return
    compute_small(network)
    if training:
        _exchange(network, {scaled_dot_product_attention: attention})
        return
    _exchange(network, _QUICKER)
    compute_by_rows(network)
    pack(network)


def run_elsewhere(network: nn.Module, forward: Function) -> None:
    """Lets a function compute what a network computes, until `restore` is called."""
    restore(network)
    vars(network)[_FORWARD] = vars(network).get("forward")  # where something else, such as a hook, stands in its place
    network.forward = forward


def restore(network: nn.Module) -> None:
    """Brings back what was replaced: the network is as it was, and may be trained, changed or moved."""
    if _FORWARD in vars(network):
        former = vars(network).pop(_FORWARD)
        del network.forward
        if former is not None:
            network.forward = former
    unpack(network)
    compute_whole(network)
    compute_plain(network)
    _exchange(network, {quicker: plain for plain, quicker in _QUICKER.items()})


def map_at_once(
    compute: Callable[[tuple[nn.Module, tuple[Tensor, Tensor]]], R],
    steps: Sequence[tuple[nn.Module, tuple[Tensor, Tensor]]],
) -> Iterable[R]:
    """Does what `map` does, on the CPU for several steps at once; each is a layer with its keys and values."""
    _, (keys, _) = steps[0]
    return at_once(compute, steps, keys.device)


_QUICKER: Mapping[Function, Function] = {scaled_dot_product_attention: attention, map: map_at_once}


def _exchange(network: nn.Module, replacements: Mapping[Function, Function]) -> None:
    """Puts functions in the place of others, wherever a layer holds them as attributes."""
    for part in network.modules():
        for name, held in list(vars(part).items()):
            for function, replacement in replacements.items():
                if held is function:
                    setattr(part, name, replacement)
