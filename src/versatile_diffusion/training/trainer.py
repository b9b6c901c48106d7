"""The training loop, for every stage."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from versatile_diffusion.training import checkpoint
from versatile_diffusion.training.task import Batch, Task, TrainingConfig


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to `final_rate` of the highest rate."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, config.steps))))
    return config.learning_rate * warm * (config.final_rate + (1 - config.final_rate) * cosine)


def draw(task: Task, config: TrainingConfig, step: int, rank: int = 0, processes: int = 1) -> Batch:
    """This process's share of the batch of one step, a function of the seed and the step."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    batch = task.draw(generator, config.batch_size * processes)
    share = slice(rank * config.batch_size, (rank + 1) * config.batch_size)
    return {name: tensor[share] for name, tensor in batch.items()}


class Trainer:
    """Trains a task in a folder: checkpoints, log and previews go there.

    Args:
        task: what to train.
        config: how.
        folder: made if missing; a run goes on from the newest checkpoint in it.
        title: shown before the progress bar.
        mixed_precision: "bf16" or "no".
    """

    def __init__(
        self, task: Task, config: TrainingConfig, folder: Path, title: str = "", mixed_precision: str = "no"
    ) -> None:
        self.task, self.config, self.folder, self.title = task, config, folder, title
        self.accelerator = Accelerator(mixed_precision=mixed_precision)
        self.model = task.model.to(self.accelerator.device)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
        self.optimizer = torch.optim.AdamW(self.parameters, config.learning_rate, weight_decay=config.weight_decay)
        self.scales = {name: task.gradient_scale(name) for name, _ in self.model.named_parameters()}
        self.step = 0

    @property
    def parameters(self) -> list[Tensor]:
        """What is trained."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def resume(self) -> bool:
        """Goes on from the newest checkpoint, if there is one."""
        whole = checkpoint.checkpoints(self.folder)
        if whole:
            self.step = checkpoint.load(whole[-1], self.model, self.average, self.optimizer)
        return bool(whole)

    def run(self) -> torch.nn.Module:
        """Trains to the last step and returns the averaged model."""
        self.resume()
        losses: dict[str, deque[float]] = {}
        started, first = time.perf_counter(), self.step
        with _progress(disable=not self.accelerator.is_main_process) as progress:
            bar = progress.add_task(self.title, total=self.config.steps, completed=self.step, report="")
            while self.step < self.config.steps:
                for name, value in self.update().items():
                    losses.setdefault(name, deque(maxlen=50)).append(value)
                speed = self.config.batch_size * (self.step - first) / (time.perf_counter() - started)
                means = {name: sum(values) / len(values) for name, values in losses.items()}
                report = "  ".join(f"{name} {mean:.4f}" for name, mean in means.items())
                progress.update(bar, completed=self.step, report=f"{report}  {speed:.0f} samples/s")
                self._record(means, speed)
        return self.average.module

    def update(self) -> dict[str, float]:
        """One step: the gradients of all passes are summed, then the weights change once."""
        values = self.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        # A short memory at first: the average must not remember the random start.
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        self.average.multi_avg_fn = get_ema_multi_avg_fn(decay)
        self.average.update_parameters(self.model)
        return values

    def backward(self) -> dict[str, float]:
        """Leaves the scaled gradients of this step on the parameters, the same on every process."""
        accelerator = self.accelerator
        batch = draw(self.task, self.config, self.step, accelerator.process_index, accelerator.num_processes)
        values: dict[str, float] = {}
        for compute in self.task.passes({name: tensor.to(accelerator.device) for name, tensor in batch.items()}):
            with accelerator.autocast():
                losses = compute()
            accelerator.backward(torch.stack([loss.float() for loss in losses.values()]).sum())
            values.update({name: loss.item() for name, loss in losses.items()})
        if bad := [name for name, value in values.items() if not math.isfinite(value)]:
            raise FloatingPointError(f"Step {self.step}: {', '.join(bad)} is no longer a finite number.")
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None:
                parameter.grad = accelerator.reduce(parameter.grad.mul_(self.scales[name]), "mean")
        return values

    def _record(self, means: Mapping[str, float], speed: float) -> None:
        done = self.step == self.config.steps
        if not self.accelerator.is_main_process:
            return
        if done or self.step % self.config.checkpoint_every == 0:
            checkpoint.save(
                self.folder, self.step, self.model, self.average, self.optimizer, self.config.keep_checkpoints
            )
            with (self.folder / "log.jsonl").open("a") as log:
                log.write(json.dumps({"step": self.step, "samples_per_second": round(speed, 1), **means}) + "\n")


def _progress(disable: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[report]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, disable=disable)
