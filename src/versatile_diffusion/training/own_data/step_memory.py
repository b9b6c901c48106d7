"""The memory that a training step takes, counted from tensors without contents: for any model, on any machine.

A step is taken on PyTorch's fake tensors, which have sizes and types but no numbers, and whatever is allocated and
freed on the way is written down. What each of several processes holds that share the model out follows from that.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator  # pyright: ignore[reportMissingTypeStubs] - accelerate has no types
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

from versatile_diffusion.training.loop.task import M, Task, TrainingConfig
from versatile_diffusion.training.loop.trainer import Trainer
from versatile_diffusion.training.settings.choices import AveragePlace

_WHOLE = 2
"""Times the largest unit that lies there while a model is shared out: itself, and the next one, which is fetched
meanwhile."""
_THERE = -1
"""The number of what was there before."""


@dataclass(frozen=True)
class PassMemory:
    """What one forward and backward pass allocates.

    Attributes:
        fullest: bytes of gradients and of all else at the moments when most is held, by whatever share of gradients.
        reached: bytes of the gradients that it leaves, by the names of their parameters.
    """

    fullest: Sequence[tuple[int, int]]
    reached: Mapping[str, int]

    def most(self, share: float = 1.0) -> int:
        """Returns the most bytes that are held at once, of gradients only that share."""
        return max(round(share * gradients) + other for gradients, other in self.fullest)


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a process holds in a training step, on the device that computes.

    Attributes:
        weights: of the model.
        average: of the weights that are trained, unless it is kept on the CPU.
        moments: of the optimizer.
        gradients: of the weights that are trained.
        passes: of each forward and backward pass.
        unit: the largest part that is brought together at once of a model that is shared out.
    """

    weights: int
    average: int
    moments: int
    gradients: int
    passes: Sequence[PassMemory]
    unit: int

    @property
    def kept(self) -> int:
        """What is there between steps."""
        return self.weights + self.average + self.moments

    @property
    def activations(self) -> int:
        """What is held at the fullest moment besides what is kept and the gradients."""
        return max(0, self.peak() - self.kept - self.gradients)

    def peak(self, processes: int = 1, at_once: bool = False) -> int:
        """Returns the most that is held at once.

        Args:
            processes: that share the model out among them (FSDP2), each of which computes a batch. Where a step has
                several passes, gradients are reduced after the last one, and are whole until then.
            at_once: whether the passes are computed at once, as the CPU does.
        """
        if processes == 1:
            most = sum(each.most() for each in self.passes) if at_once else self._in_turn
            return self.kept + max(most, self.gradients)
        step = self.passes[0].most(1 / processes) if len(self.passes) == 1 else self._in_turn
        return self.kept // processes + max(step, self.gradients // processes) + _WHOLE * self.unit

    @property
    def _in_turn(self) -> int:
        left, most = dict[str, int](), 0
        for each in self.passes:
            most = max(most, sum(left.values()) + each.most())
            left |= each.reached
        return most


def step_memory(task: Task[M], config: TrainingConfig, mixed_precision: str) -> StepMemory:
    """Counts what a step of `Trainer` takes.

    Args:
        task: of the model as it is trained, with what is frozen and LoRAs. Its weights are not read. It is of no use
            afterwards, since its model has lost its contents.
        config: of the training.
        mixed_precision: as in `Trainer`.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        task.model = _without_contents(task.model)
        trainer = Trainer(task, config, Path(), mixed_precision=mixed_precision)
        passes = _passes(trainer)
        trainer.weights.optimizer.begin(trainer.parameters)
        states = [list(part.state.values()) for part in trainer.weights.optimizer.parts]
        state = [each for each in tree_leaves(states) if isinstance(each, Tensor)]
        return StepMemory(
            weights=_bytes(trainer.model.parameters()) + _bytes(trainer.model.buffers()),
            average=0 if config.average is AveragePlace.CPU else _bytes(trainer.average.tensors.values()),
            moments=_bytes(state),
            gradients=_bytes(trainer.parameters),
            passes=passes,
            unit=max((_bytes(unit.parameters()) for unit in task.units()), default=0),
        )


def _without_contents(model: M) -> M:
    """A copy of a model, on the device that computes."""
    device: torch.device = Accelerator().device
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        empty = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    copied = copy.deepcopy(model, memo)
    setattr(copied, "to", partial(_stay, copied))  # noqa: B010 - it cannot move such tensors, and need not
    return copied


def _stay(model: M, *_: object) -> M:
    return model


def _passes(trainer: Trainer[Any]) -> list[PassMemory]:
    """Takes the passes of a step one by one, each without what the ones before left."""
    device, config = trainer.accelerator.device, trainer.config
    drawn = trainer.task.draw(torch.Generator(), config.batch_size)
    batch = {name: tensor.to(device) for name, tensor in drawn.items()}
    found: list[PassMemory] = []
    passes = iter(trainer.task.passes(batch))
    while True:
        with _Allocations([*trainer.model.parameters(), *trainer.model.buffers(), *batch.values()]) as log:
            if (compute := next(passes, None)) is None:  # what is computed before a pass begins counts as well
                return found
            with trainer.gradients.autocast():
                losses = compute()
            total = torch.stack([loss.float() for loss in losses.values()]).sum()
            gradients = list[Tensor | None](torch.autograd.grad(total, trainer.parameters, allow_unused=True))
            of_gradients = log.numbers([each for each in gradients if each is not None])
        reached = {
            name: parameter.nbytes
            for (name, parameter), each in zip(trainer.trained.items(), gradients, strict=True)
            if each is not None
        }
        found.append(PassMemory(log.fullest(of_gradients), reached))


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


class _Allocations(TorchDispatchMode):
    """Writes down what is allocated and freed, in its order. Numbers that are asked for are 1.

    Args:
        there: tensors that are there before, of which views may be made.
    """

    def __init__(self, there: Iterable[Tensor]) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType] - torch leaves a parameter untyped
        self.sizes: list[int] = []
        self.events: list[int] = []
        self._known: Any = WeakIdKeyDictionary()  # which has no types
        for tensor in there:
            self._known[tensor.untyped_storage()] = _THERE

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:  # asked far more often than is computed
            return args[0].fake_device
        if func is torch.ops.aten._local_scalar_dense.default:  # which a tensor without contents cannot answer
            return 1.0
        found = func(*args, **(kwargs or {}))
        return tree_map_only(Tensor, self._see, found)

    def numbers(self, tensors: Sequence[Tensor]) -> set[int]:
        """Returns the numbers of what was allocated for these tensors."""
        found = {int(self._known[tensor.untyped_storage()]) for tensor in tensors}
        return found - {_THERE}

    def fullest(self, of_gradients: set[int]) -> list[tuple[int, int]]:
        """Returns the bytes of gradients and of all else at each moment when no other moment has more of both."""
        gradients, other, found = 0, 0, set[tuple[int, int]]()
        for event in self.events:
            number = event if event >= 0 else ~event
            size = self.sizes[number] if event >= 0 else -self.sizes[number]
            gradients, other = (gradients + size, other) if number in of_gradients else (gradients, other + size)
            found.add((gradients, other))
        fullest: list[tuple[int, int]] = []
        for moment in sorted(found, reverse=True):
            if not fullest or moment[1] > fullest[-1][1]:
                fullest.append(moment)
        return fullest

    def _see(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage not in self._known:
            number = len(self.sizes)
            self._known[storage] = number
            self.sizes.append(storage.nbytes())
            self.events.append(number)
            weakref.finalize(storage, self.events.append, ~number)
        return tensor
