"""The training loop, for every stage.

Nothing is compiled: on the CPU, torch.compile of PyTorch 2.13 silently returns zero gradients through some nearest
up-samplings, as the decoder of the image autoencoder has them.
"""

from __future__ import annotations

import math
import time
import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic

import torch
from accelerate import Accelerator  # pyright: ignore[reportMissingTypeStubs] - accelerate has no types
from accelerate.utils import gather_object  # pyright: ignore - accelerate has no types
from torch import Tensor

from versatile_diffusion.kernels import optimize
from versatile_diffusion.processes import forget_precision, processes
from versatile_diffusion.training.loop import checkpoint
from versatile_diffusion.training.loop.average import WeightAverage
from versatile_diffusion.training.loop.batch_share import BatchShare
from versatile_diffusion.training.loop.gradients import PassGradients
from versatile_diffusion.training.loop.interrupt import HeldInterrupt
from versatile_diffusion.training.loop.machine import held_memory
from versatile_diffusion.training.loop.metric_logger import VALIDATION, MetricLogger
from versatile_diffusion.training.loop.optimizers import ParameterOptimizer
from versatile_diffusion.training.loop.progress import TrainingProgress
from versatile_diffusion.training.loop.sharding import shard
from versatile_diffusion.training.loop.task import Batch, M, Preview, Task, TrainingConfig
from versatile_diffusion.training.loop.trackers import Tracking
from versatile_diffusion.training.loop.update import WeightUpdate

OnPreview = Callable[[int, Preview], None]

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What a run may compute in, as accelerate calls it."""
SMOOTHING = 50
"""Updates that a reported loss is the mean of."""


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Returns the rate of a step: a linear warm-up, then a cosine down to `final_rate` of the highest rate."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, config.steps))))
    return config.learning_rate * warm * (config.final_rate + (1 - config.final_rate) * cosine)


def average_decay(config: TrainingConfig, step: int) -> float:
    """Returns decay of the averaged weights: a short memory at first, so that the random start is forgotten."""
    return min(config.ema_decay, (1 + step) / (10 + step))


def draw(task: Task[Any], config: TrainingConfig, step: int, rank: int = 0, processes: int = 1) -> Batch:
    """Returns this process's share of the batch of one step, a function of the seed and the step."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    size = config.batch_size * config.accumulate * processes
    return task.draw_share(generator, size, BatchShare(rank, processes))


class Trainer(Generic[M]):
    """Trains a task in a folder: checkpoints, log and previews go there.

    Several processes, started by `accelerate launch`, share the work: each takes its own part of a larger batch.

    Args:
        task: what to train. Its model is put in evaluation mode, where it draws nothing of its own.
        config: how.
        folder: made if missing; a run goes on from the newest checkpoint in it. Remove it to start afresh.
        title: shown before the progress bar.
        mixed_precision: what is computed in, one of PRECISIONS; weights that are trained are kept in float32.
        on_preview: called with the step and the task's preview whenever there is a new one.
        sharded: whether several processes share the model out among them, too (FSDP2), instead of each having all.
        tracking: the trackers that follow the run; TensorBoard by default.
    """

    def __init__(
        self,
        task: Task[M],
        config: TrainingConfig,
        folder: Path,
        title: str = "",
        mixed_precision: str = "no",
        on_preview: OnPreview | None = None,
        sharded: bool = False,
        tracking: Tracking | None = None,
    ) -> None:
        self.task, self.config, self.folder, self.title = task, config, folder, title
        self.on_preview = on_preview
        processes()
        forget_precision()
        self.accelerator = Accelerator(mixed_precision="no")
        self.dtype = dtype = PRECISIONS[mixed_precision]
        self.model = task.model.to(self.accelerator.device).eval()
        optimize(self.model, training=True)
        several = self.accelerator.num_processes > 1
        self.shards = shard(self.model, task.units(), self.accelerator.device, dtype) if sharded and several else None
        self.trained = {name: each for name, each in self.model.named_parameters() if each.requires_grad}
        self.average = WeightAverage(self.trained, config.average)
        shared = several and self.shards is None
        optimizer = ParameterOptimizer(config.optimizer, self.parameters, config.weight_decay, shared)
        self.weights = WeightUpdate(optimizer, self.parameters, config.clip_norm, dtype is torch.float16)
        self.gradients = PassGradients(self.parameters, self.accelerator, dtype, self._differentiated, self.shards)
        task.autocast = self.gradients.autocast
        self.logger = MetricLogger(folder, tracking or Tracking(), self.accelerator.is_main_process)
        self.step, self.seconds = 0, 0.0

    @property
    def parameters(self) -> list[Tensor]:
        """What is trained."""
        return list(self.trained.values())

    @property
    def samples(self) -> int:
        """How many an update takes, of all processes together."""
        return self.config.batch_size * self.config.accumulate * self.accelerator.num_processes

    def resume(self) -> bool:
        """Goes on from the newest checkpoint, if there is one."""
        whole = checkpoint.checkpoints(self.folder)
        if whole:
            memory = checkpoint.load(whole[-1], self._state)
            self.step, self.seconds = memory["step"], memory.get("seconds", 0.0)
            self.weights.remember(memory)
            self.task.remember(memory.get("data", []))
        return bool(whole)

    def run(self) -> M:
        """Trains to the last step and returns the model, with the average of its weights.

        Raises:
            KeyboardInterrupt: after Ctrl-C, once the step is over and a checkpoint is saved.
        """
        self.resume()
        if self.step < self.config.steps:
            main = self.accelerator.is_main_process
            bar = TrainingProgress(self.title, self.config.steps, self.step, self.accelerator.device, main)
            with bar, HeldInterrupt() as interrupt:
                self._train(bar, interrupt)
        self.average.apply()
        return self.model

    def update(self) -> dict[str, float]:
        """Takes one step: the gradients of all passes are summed, then the weights change once.

        Raises:
            FloatingPointError: if a loss or the gradient is no longer finite.
        """
        values = self.backward()
        if not self.weights.take(learning_rate(self.config, self.step)):
            self._skip()
        self.step += 1
        self.average.update(average_decay(self.config, self.step))
        return values

    def backward(self) -> dict[str, float]:
        """Leaves the scaled gradients of this step on the parameters, the same on every process.

        Raises:
            FloatingPointError: if a loss is no longer finite.
        """
        accelerator, count = self.accelerator, self.config.accumulate
        batch = draw(self.task, self.config, self.step, accelerator.process_index, accelerator.num_processes)
        found: list[dict[str, float]] = []
        for number in range(count):
            part = {name: tensor.chunk(count)[number].to(accelerator.device) for name, tensor in batch.items()}
            found.append(self.gradients.add(list(self.task.passes(part)), last=number == count - 1))
        values = self.gradients.mean({name: sum(each[name] for each in found) / count for name in found[0]})
        if bad := [name for name, value in values.items() if not math.isfinite(value)]:
            raise self._diverged(", ".join(bad))
        for name, parameter in self.trained.items():
            if parameter.grad is not None and (scale := self.task.gradient_scale(name)) != 1:
                parameter.grad.mul_(scale)
        self.gradients.share()
        return values

    def _skip(self) -> None:
        """Tells of a step that was not taken, or ends the run if this is no matter of float16's range."""
        if self.weights.is_hopeless:
            raise self._diverged("the gradient")
        if self.accelerator.is_main_process:
            warnings.warn(
                f"Step {self.step} was skipped, since its gradient was too large for fp16. Losses are multiplied by "
                f"{self.weights.scale:g} from here on.",
                stacklevel=2,
            )

    def _differentiated(self, loss: Tensor) -> Tensor:
        """A batch's share of what an update descends, in float16 scaled."""
        return self.weights.scaled(loss / self.config.accumulate)

    def _diverged(self, what: str) -> FloatingPointError:
        """The error of a run that cannot go on: what is no longer finite, and what it goes on from."""
        whole = checkpoint.checkpoints(self.folder)
        again = f"The last good checkpoint is {whole[-1]}: go on from it" if whole else "Begin again"
        range_ = ", or in bf16 or fp32, whose range is larger" if self.dtype is torch.float16 else ""
        return FloatingPointError(
            f"Step {self.step}: {what} is no longer a finite number, so training has diverged. {again} with a lower "
            f"learning_rate or more warmup_steps{range_}."
        )

    def _train(self, progress: TrainingProgress, interrupt: HeldInterrupt) -> None:
        first, clock, before = self.step, time.perf_counter(), self.seconds
        losses: dict[str, deque[float]] = {}
        with self.logger.after(self.step):
            while self.step < self.config.steps:
                for name, value in self.update().items():
                    losses.setdefault(name, deque(maxlen=SMOOTHING)).append(value)
                self.seconds = before + time.perf_counter() - clock
                speed = self.samples * (self.step - first) / (self.seconds - before)
                means = {name: sum(values) / len(values) for name, values in losses.items()}
                progress.tell(self.step, speed, means)
                self._record(progress, means, speed)
                if self._interrupted(interrupt):
                    self._save()
                    raise KeyboardInterrupt

    def _record(self, progress: TrainingProgress, means: dict[str, float], speed: float) -> None:
        """Logs, previews and saves, each when its time has come. What all processes hold parts of takes all of them."""
        done = self.step == self.config.steps
        shown = done or self.step % self.config.preview_every == 0
        if shown and self._takes_part:
            with torch.no_grad(), self.average.applied():
                validated = self.task.validate(self.model)
            means = means | {f"{VALIDATION}{name}": loss for name, loss in validated.items()}
        if self.accelerator.is_main_process and (done or self.step % self.config.log_every == 0):
            with checkpoint.room_for("The log", self.folder):
                self.logger.write(self.step, self._figures(speed), means)
        at_first = self.step == 1 and self.on_preview is not None  # after a step, which is to be taken at once
        if (shown or at_first) and self._takes_part:
            self._show(progress)
        if done or self.step % self.config.checkpoint_every == 0:
            self._save()

    @property
    def _takes_part(self) -> bool:
        """Whether this process is needed to look at the model: one is, or all that hold parts of it."""
        return self.accelerator.is_main_process or self.shards is not None

    def _figures(self, speed: float) -> dict[str, float]:
        """What a line of the log tells besides losses; see `NO_LOSS`."""
        rate, memory = learning_rate(self.config, self.step - 1), held_memory(self.accelerator.device)
        found = {"seconds": round(self.seconds, 1), "samples_per_second": round(speed, 1), "learning_rate": rate}
        if self.dtype is torch.float16:
            found["skipped"] = self.weights.skipped
        return found if memory is None else found | {"memory": memory}

    def _show(self, progress: TrainingProgress) -> None:
        """Shows what the averaged weights make, where somebody looks."""
        if not (self.logger.shows or self.on_preview) and self.shards is None:
            return
        with torch.no_grad(), self.average.applied(), progress.doing("making samples to look at"):
            preview = self.task.preview(self.model)
        if self.accelerator.is_main_process:
            with checkpoint.room_for(f"What it makes at step {self.step:,}", self.folder):
                self.logger.show(self.step, preview)
                if self.on_preview is not None:
                    self.on_preview(self.step, preview)

    def _interrupted(self, interrupt: HeldInterrupt) -> bool:
        """Whether any process was told to stop; all hear of it after the same step."""
        if self.accelerator.num_processes == 1:
            return interrupt.pending
        told = torch.tensor(float(interrupt.pending), device=self.accelerator.device)
        return bool(self.accelerator.reduce(told, "sum"))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] - accelerate has no types

    @property
    def _state(self) -> checkpoint.TrainingState:
        return checkpoint.TrainingState(self.trained, self.average, self.weights.optimizer)

    def _save(self) -> None:
        data: list[object] = gather_object([self.task.memory()])  # pyright: ignore[reportUnknownVariableType] - accelerate has no types
        memory = {"step": self.step, "seconds": self.seconds, "data": data, **self.weights.memory}
        checkpoint.save(self.folder, memory, self._state, self.config.keep_checkpoints)
