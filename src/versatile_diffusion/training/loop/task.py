"""What the training loop must be told of a stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Generic, TypeVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Generator, Tensor, nn

from versatile_diffusion.training.loop.batch_share import BatchShare
from versatile_diffusion.training.settings.choices import AveragePlace, OptimizerName

M = TypeVar("M", bound=nn.Module)

Batch = Mapping[str, Tensor]
Pass = Callable[[], Mapping[str, Tensor]]
Preview = Mapping[str, Tensor | str]
"""Images (3 h w) in [0, 1] and texts, by what they show."""

Count = Annotated[int, Field(strict=True, ge=0)]
"""A whole number from 0; strict, so that neither "False" nor 1.5 passes for one."""
AtLeastOne = Annotated[int, Field(strict=True, ge=1)]
"""A whole number from 1."""
Amount = Annotated[float, Field(strict=True, ge=0)]
"""A number from 0."""
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
"""A number from 0 to 1."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TrainingConfig:
    """How long, how fast and how often a stage is trained.

    Attributes:
        steps: updates in all.
        batch_size: samples that each process computes at once.
        learning_rate: the highest one.
        warmup_steps: updates until the learning rate is at its highest.
        final_rate: share of the learning rate that is left at the last step, after a cosine.
        weight_decay: share of the weights, times the learning rate, that each update takes away.
        clip_norm: longest gradient allowed.
        ema_decay: of the average of the weights that is kept and used.
        checkpoint_every: updates between checkpoints.
        keep_checkpoints: how many are kept.
        preview_every: updates between previews in the log.
        seed: of every draw.
        log_every: updates between lines of the log.
        optimizer: what changes the weights.
        accumulate: batches that an update takes from each process, one after the other.
        average: where the average of the weights is kept.
    """

    steps: Count
    batch_size: AtLeastOne
    learning_rate: Amount
    warmup_steps: Count = 100
    final_rate: Share = 0.05
    weight_decay: Amount = 0.01
    clip_norm: Amount = 1.0
    ema_decay: Share = 0.999
    checkpoint_every: AtLeastOne = 250
    keep_checkpoints: AtLeastOne = 2
    preview_every: AtLeastOne = 500
    seed: Count = 0
    log_every: AtLeastOne = 25
    optimizer: OptimizerName = OptimizerName.ADAMW
    accumulate: AtLeastOne = 1
    average: AveragePlace = AveragePlace.DEVICE


class Task(ABC, Generic[M]):
    """A model, the data it learns from and the losses it learns by.

    All randomness is in `draw`, a function of its generator alone: that makes a resumed run equal to an uninterrupted
    one. What else a draw depends on, such as how far a stream of samples was read, is in `memory`. Where losses are
    means over samples, two processes equal one with twice the batch.

    Attributes:
        model: what is trained.
        autocast: within what it makes, the model computes in the numbers of training, as all of `passes` does.
    """

    model: M
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext

    @abstractmethod
    def draw(self, generator: Generator, size: int) -> Batch:
        """Returns tensors of `size` samples each, or of a multiple of that, noise and all."""

    def draw_share(self, generator: Generator, size: int, share: BatchShare) -> Batch:
        """Returns one process's share of what `draw` returns; a task whose samples take long to load reads only these.

        Args:
            generator: the same in all processes.
            size: samples of all processes together.
            share: of this process.
        """
        return {name: share.of(tensor) for name, tensor in self.draw(generator, size).items()}

    def memory(self) -> object:
        """Returns what a checkpoint must remember of this process's data, as JSON; None if there is nothing."""
        return None

    def remember(self, memories: Sequence[object]) -> None:
        """Goes on where a checkpoint was saved, with the memories of all processes that saved it, by their ranks."""
        return

    @abstractmethod
    def passes(self, batch: Batch) -> Iterable[Pass]:
        """Returns forward passes, each a function that returns named losses. Gradients of all passes are summed."""

    def units(self) -> Iterable[nn.Module]:
        """Returns the modules that compute one after the other, for a model that is shared out; see `shard`."""
        return ()

    def gradient_scale(self, name: str) -> float:
        """Returns the factor for the gradient of the parameter of that name (paper, section 3.4)."""
        return 1.0

    def validate(self, model: M) -> Mapping[str, float]:
        """Returns losses on data that is not learnt from, by what they tell; each time of the same draws."""
        return {}

    def preview(self, model: M) -> Preview:
        """Returns images (3 h w) in [0, 1] and texts for the log, made with the averaged model, without gradients."""
        return {}
