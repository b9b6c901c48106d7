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

    Attributes:
        places: where in the network the layer of each such child is.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.places: dict[str, str] = {}
        self._own: dict[str, nn.Module | None] = {}

    def __getitem__(self, name: str) -> nn.Module | None:
        return self.network.get_submodule(self.places[name]) if name in self.places else self._own[name]

    def __setitem__(self, name: str, module: nn.Module | None) -> None:
        if name in self.places:
            parent, _, last = self.places[name].rpartition(".")
            setattr(self.network.get_submodule(parent), last, module)
        else:
            self._own[name] = module

    def __delitem__(self, name: str) -> None:
        if name in self.places:
            raise AttributeError(f"{name} is a layer of the diffuser, which cannot do without it.")
        del self._own[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from self.places

    def __len__(self) -> int:
        return len(self._own) + len(self.places)


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
