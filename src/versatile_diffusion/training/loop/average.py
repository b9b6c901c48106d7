"""The moving average of what is trained, which is what a run gives in the end."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from versatile_diffusion.training.settings.choices import AveragePlace


class WeightAverage:
    """An exponential moving average of the parameters that are trained; those that are frozen are not copied.

    Args:
        parameters: by their names. The average begins as a copy of them.
        place: where the average is kept. If nowhere, the parameters stand for it.
    """

    def __init__(self, parameters: Mapping[str, Tensor], place: AveragePlace = AveragePlace.DEVICE) -> None:
        self.parameters = parameters
        kept: Mapping[str, Tensor] = {} if place is AveragePlace.NONE else parameters
        device = "cpu" if place is AveragePlace.CPU else None
        self.tensors = {name: parameter.detach().to(device, copy=True) for name, parameter in kept.items()}
        self._at_once = 1 if place is AveragePlace.CPU else len(kept) or 1  # there may be no room for all on the CPU
        self._empty = True

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Moves the average towards the parameters; the first time it becomes what they are.

        Args:
            decay: the share of the average that stays.
        """
        if self._empty:
            self.begin_anew()
        else:
            names = list(self.tensors)
            for start in range(0, len(names), self._at_once):
                self._move(names[start : start + self._at_once], decay)
        self._empty = False

    def begin(self) -> None:
        """Takes what `tensors` hold for an average, as after a saved one was read into them."""
        self._empty = False

    @torch.no_grad()
    def begin_anew(self) -> None:
        """Takes the parameters for the average so far."""
        for name, mean in self.tensors.items():
            mean.copy_(self.parameters[name])

    @torch.no_grad()
    def apply(self) -> None:
        """Gives the parameters the averaged values for good."""
        for name, mean in self.tensors.items():
            self.parameters[name].copy_(mean)

    @contextmanager
    def applied(self) -> Generator[None]:
        """Within this context the parameters have the averaged values."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _move(self, names: Sequence[str], decay: float) -> None:
        averaged = [self.tensors[name] for name in names]
        current = [self.parameters[name].detach().to(self.tensors[name].device) for name in names]
        get_ema_multi_avg_fn(decay)(averaged, current, 0)

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, mean in self.tensors.items():
            parameter = self.parameters[name]
            held = parameter.detach().clone()
            parameter.copy_(mean)
            mean.copy_(held)
