"""Modalities whose parts may be left out, so that a flow loads only what it needs."""

from __future__ import annotations

from abc import ABC
from typing import Any, Generic, TypeVar

from torch import nn

from versatile_diffusion.modalities.base import Item, Modality

Part = TypeVar("Part")


class ModalityOfParts(Modality[Item], ABC, Generic[Item]):
    """A modality whose configuration gives its autoencoder and its context encoder under the names of these parts."""

    def __getattr__(self, name: str) -> Any:  # as in PyTorch, whose modules may hold anything
        # diffusers looks into the configuration before it looks at submodules of the same name
        modules: dict[str, nn.Module | None] = self.__dict__.get("_modules", {})
        return modules[name] if name in modules else super().__getattr__(name)


def loaded(part: Part | None, what: str, flow: str) -> Part:
    """Returns the part, if it is there.

    Raises:
        RuntimeError: if it is not; says which flow needs it.
    """
    if part is None:
        raise RuntimeError(f"The {what} is not loaded: load the model with a flow {flow}.")
    return part
