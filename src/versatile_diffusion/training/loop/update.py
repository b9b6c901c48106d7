"""One change of the weights: gradients are checked and clipped, then the optimizer takes its step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_

from versatile_diffusion.training.loop.optimizers import ParameterOptimizer


class WeightUpdate:
    """Takes steps by gradients that are finite, and skips others.

    In float16 gradients are computed of losses that are multiplied by a large factor, since small ones would be
    nothing there (torch.amp.GradScaler). The factor is halved where gradients are no longer finite, which is no sign
    that training diverges, and doubled after a while without.

    Args:
        optimizer: of the parameters.
        parameters: that are trained.
        clip_norm: longest gradient allowed.
        scales: whether losses are to be scaled, as in float16.

    Attributes:
        skipped: steps that were not taken since their gradients were not finite.
    """

    def __init__(
        self, optimizer: ParameterOptimizer, parameters: Sequence[Tensor], clip_norm: float, scales: bool
    ) -> None:
        self.optimizer, self.parameters, self.clip_norm = optimizer, parameters, clip_norm
        self.skipped = 0
        self._scaler: GradScaler | None = None
        if scales:
            device = parameters[0].device
            self._scaler = GradScaler(device.type)
            self._scaler.scale(torch.zeros((), device=device))  # it begins with the first loss that it is shown

    def scaled(self, loss: Tensor) -> Tensor:
        """Returns what is differentiated."""
        return loss if self._scaler is None else self._scaler.scale(loss)

    def take(self, learning_rate: float) -> bool:
        """Takes a step by the gradients on the parameters, if they are finite, and lets go of them.

        Returns:
            Whether it was taken.
        """
        if self._scaler is not None:
            for part in self.optimizer.parts:
                self._scaler.unscale_(part)
        norm = clip_grad_norm_(self.parameters, self.clip_norm)
        finite = math.isfinite(norm.full_tensor() if isinstance(norm, DTensor) else norm)
        if finite:
            self.optimizer.step(learning_rate)
        else:
            self.optimizer.zero_grad()
            self.skipped += 1
        if self._scaler is not None:
            self._scaler.update()
        return finite

    @property
    def scale(self) -> float:
        """By what losses are multiplied."""
        return 1.0 if self._scaler is None else self._scaler.get_scale()

    @property
    def is_hopeless(self) -> bool:
        """Whether gradients that are not finite are none for want of range."""
        return self._scaler is None or self.scale < 1

    @property
    def memory(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON."""
        return {} if self._scaler is None else {"scaler": self._scaler.state_dict(), "skipped": self.skipped}

    def remember(self, memory: Mapping[str, Any]) -> None:
        """Takes what `memory` was; a run that began in another precision has none."""
        if self._scaler is not None and "scaler" in memory:
            self._scaler.load_state_dict(memory["scaler"])
            self.skipped = memory["skipped"]
