"""Layers of one network under the names that another library gives them.

People of the field find layers by diffusers' names: LoRAs go to "attn2.to_q", weights are read under
"down_blocks.0.resnets.0.conv1". A tree of modules shows a network's own layers under such names. There is no second
copy: a layer is looked up in the network whenever it is asked for, and what takes its place in the tree, as LoRAs of
peft do, takes its place in the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from torch import nn


class RenamedChildren(MutableMapping[str, nn.Module | None]):
    """Children of a module, some of which are layers of a network.

    It takes the place of the dict in which nn.Module holds its children.

    Args:
        network: that holds the layers.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._held: dict[str, str | nn.Module | None] = {}  # a child, or the place of a layer in the network

    def show(self, name: str, place: str) -> None:
        """Lets the layer at a place in the network be the child of that name."""
        self._held[name] = place

    def __getitem__(self, name: str) -> nn.Module | None:
        held = self._held[name]
        return self.network.get_submodule(held) if isinstance(held, str) else held

    def __setitem__(self, name: str, module: nn.Module | None) -> None:
        held = self._held.get(name)
        if isinstance(held, str):
            parent, _, last = held.rpartition(".")
            setattr(self.network.get_submodule(parent), last, module)
        else:
            self._held[name] = module

    def __delitem__(self, name: str) -> None:
        if isinstance(self._held[name], str):
            raise AttributeError(f"{name} is a layer of the network, which cannot do without it.")
        del self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


def renames_children(module: nn.Module, network: nn.Module) -> RenamedChildren:
    """Lets a new module, without children, show layers of a network, and returns its children."""
    children = RenamedChildren(network)
    vars(module)["_modules"] = children
    return children


def children_of(module: Any) -> RenamedChildren:
    """The children of a module of such a tree."""
    return module._modules


def layers(tensors: Mapping[str, str]) -> dict[str, str]:
    """The names of layers, old and new, of those of their tensors."""
    return {old.rpartition(".")[0]: new.rpartition(".")[0] for old, new in tensors.items()}
