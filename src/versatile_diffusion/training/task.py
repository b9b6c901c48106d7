"""What the training loop must be told of a stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Generator, Tensor, nn

M = TypeVar("M", bound=nn.Module)

Batch = Mapping[str, Tensor]
Pass = Callable[[], Mapping[str, Tensor]]


@dataclass(frozen=True)
class TrainingConfig:
    """How long, how fast and how often.

    Attributes:
        steps: updates in all.
        batch_size: samples an update takes from each process.
        learning_rate: at its highest.
        warmup_steps: updates until the learning rate is at its highest.
        final_rate: share of the learning rate that is left at the last step, after a cosine.
        weight_decay: AdamW's.
        clip_norm: longest gradient allowed.
        ema_decay: of the average of the weights that is kept and used.
        checkpoint_every: updates between checkpoints.
        keep_checkpoints: how many are kept, at least 1.
        preview_every: updates between previews in the log.
        seed: of every draw.
        log_every: updates between lines of the log.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 100
    final_rate: float = 0.05
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    checkpoint_every: int = 250
    keep_checkpoints: int = 2
    preview_every: int = 500
    seed: int = 0
    log_every: int = 25


class Task(ABC, Generic[M]):
    """A model, the data it learns from and the losses it learns by.

    All randomness is in `draw`, a function of its generator alone: that makes a resumed run equal to an uninterrupted
    one. Where losses are means over samples, two processes equal one with twice the batch.
    """

    model: M

    @abstractmethod
    def draw(self, generator: Generator, size: int) -> Batch:
        """Tensors of `size` samples each, or of a multiple of that, noise and all."""

    @abstractmethod
    def passes(self, batch: Batch) -> Iterable[Pass]:
        """Forward passes, each a function that returns named losses. Gradients of all passes are summed."""

    def gradient_scale(self, name: str) -> float:
        """Factor for the gradient of the parameter of that name (paper, section 3.4)."""
        return 1.0

    def preview(self, model: M) -> Mapping[str, Tensor | str]:
        """Pictures (3 h w) in [0, 1] and texts for the log, made with the averaged model, without gradients."""
        return {}
