"""The moving average of what is trained, which is what a run gives in the end."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """An exponential moving average of the parameters that are trained; those that are frozen are not copied.

    Args:
        parameters: by their names. The average begins as a copy of them.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.parameters = parameters
        self.tensors = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        self._empty = True

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Moves the average towards the parameters; the first time it becomes what they are.

        Args:
            decay: the share of the average that stays.
        """
        averaged, current = list(self.tensors.values()), [each.detach() for each in self.parameters.values()]
        if self._empty:
            for mean, weight in zip(averaged, current, strict=True):
                mean.copy_(weight)
        else:
            get_ema_multi_avg_fn(decay)(averaged, current, 0)
        self._empty = False

    def begin(self) -> None:
        """Takes what `tensors` hold for an average, as after a saved one was read into them."""
        self._empty = False

    @torch.no_grad()
    def apply(self) -> None:
        """Gives the parameters the averaged values for good."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.tensors[name])

    @contextmanager
    def applied(self) -> Generator[None]:
        """Within this context the parameters have the averaged values."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self.parameters.items():
            held = parameter.detach().clone()
            parameter.copy_(self.tensors[name])
            self.tensors[name].copy_(held)
