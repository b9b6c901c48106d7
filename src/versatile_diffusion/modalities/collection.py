"""The modalities of one model, by name."""

from __future__ import annotations

from collections.abc import ItemsView, Mapping, ValuesView

import torch
from torch import nn

from versatile_diffusion.modalities.base import Modality


class Modalities(nn.ModuleDict):
    """The modalities of one model by their names, as one module, such as a pipeline holds it."""

    def __init__(self, modalities: Mapping[str, Modality]) -> None:
        super().__init__()
        for name, modality in modalities.items():
            self.add_module(name, modality)

    def __getitem__(self, key: str) -> Modality:
        return self._held[key]

    def items(self) -> ItemsView[str, Modality]:
        """Returns the names and the modalities, in their order."""
        return self._held.items()

    def values(self) -> ValuesView[Modality]:
        """Returns the modalities, in their order."""
        return self._held.values()

    def named(self, name: str) -> Modality:
        """Returns the modality of a name.

        Raises:
            ValueError: if the model does not have it; the message says which ones it has.
        """
        if name not in self:
            raise ValueError(f"This model knows {' and '.join(self)}, not {name!r:.100}.")
        return self[name]

    @property
    def device(self) -> torch.device:
        """The device that they are on."""
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The type of the numbers that they compute in."""
        return next((parameter.dtype for parameter in self.parameters()), torch.get_default_dtype())

    @property
    def _held(self) -> dict[str, Modality]:
        return {name: module for name, module in self._modules.items() if isinstance(module, Modality)}
