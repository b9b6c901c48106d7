"""A training step of the bundled model's diffuser, all four flows, against the plain loop that anyone would write."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
from versatile_diffusion.bench.report import Figure, Result, Settings
from versatile_diffusion.bench.timing import alternate, ratios, seconds
from versatile_diffusion.bench.training_peer import BATCH, peer_figures
from versatile_diffusion.bundled import DRAWN_WORLD
from versatile_diffusion.devices import computes_bf16
from versatile_diffusion.flows import Flow
from versatile_diffusion.training.loop.task import TrainingConfig
from versatile_diffusion.training.loop.trainer import Trainer, average_decay, draw, learning_rate
from versatile_diffusion.training.samples.random_latents import RandomLatents
from versatile_diffusion.training.stages.model_recipe import ModelRecipe
from versatile_diffusion.training.stages.model_training import flow_multiples
from versatile_diffusion.training.tasks.diffuser import DiffuserTask
from versatile_diffusion.worlds.registry import get_world

_AT_LEAST = 1.5
_TOLERANCE = 0.05
"""Of the losses, which both steps reach from the same weights and draws; of a sum over hundreds of samples."""


class PlainLoop:
    """The loop that anyone would write: in float32, and with one tensor after the other."""

    def __init__(self, task: DiffuserTask, config: TrainingConfig) -> None:
        self.task, self.config, self.step = task, config, 0
        self.average = copy.deepcopy(task.model)
        self.optimizer = torch.optim.AdamW(
            task.model.parameters(), config.learning_rate, weight_decay=config.weight_decay, foreach=False
        )

    def update(self) -> dict[str, float]:
        """Takes one step, and returns the losses by their names."""
        self.optimizer.zero_grad()
        losses: dict[str, Tensor] = {}
        for compute in self.task.passes(draw(self.task, self.config, self.step)):
            losses |= compute()
        total = sum(losses.values(), torch.zeros(()))
        total.backward()  # pyright: ignore[reportUnknownMemberType] - untyped in torch
        torch.nn.utils.clip_grad_norm_(self.task.model.parameters(), self.config.clip_norm, foreach=False)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step)
        self.optimizer.step()  # pyright: ignore[reportUnknownMemberType] - untyped in torch
        self.step += 1
        decay = average_decay(self.config, self.step)
        with torch.no_grad():
            for mean, weight in zip(self.average.parameters(), self.task.model.parameters(), strict=True):
                mean.lerp_(weight, 1 - decay)
        return {name: loss.item() for name, loss in losses.items()}


def measure(settings: Settings) -> Result:
    """Times updates of both loops in the batches of the recipe, and of text-to-image beside diffusers' example.

    Raises:
        RuntimeError: If the two do not reach the same losses.
    """
    precision = "bf16" if computes_bf16(torch.device("cpu")) else "no"
    recipe = get_world(DRAWN_WORLD).recipe()
    pipe = VersatileDiffusionPipeline.from_pretrained(settings.model, torch_dtype=torch.float32)
    with TemporaryDirectory() as folder:
        ours = Trainer(_task(pipe, recipe), recipe.four_flow, Path(folder), mixed_precision=precision)
        plain = PlainLoop(_task(pipe, recipe), recipe.four_flow)
        works: dict[str, Callable[[int], dict[str, float]]] = {
            "a step": lambda number: ours.update(),
            "a step of the plain loop": lambda number: plain.update(),
        }
        for work in works.values():
            work(0)
        found = alternate(works, settings.rounds)
    for mine, theirs in zip(*found.values(), strict=True):
        _require_near(mine.output, theirs.output)
    figures = [Figure(name, "s", seconds(runs)) for name, runs in found.items()]
    figures.append(Figure("the plain loop / ours", "×", ratios(*found.values()), at_least=_AT_LEAST))
    figures += peer_figures(settings, precision)
    how = {"model": settings.model, "batch": recipe.four_flow.batch_size, "precision": precision}
    how["batch of text-to-image"] = BATCH
    return Result("A training step of four flows", figures, how)


def _task(pipe: VersatileDiffusionPipeline, recipe: ModelRecipe) -> DiffuserTask:
    return DiffuserTask(
        copy.deepcopy(pipe.diffuser).requires_grad_(True),
        [Flow.parse(name) for name in ("image-variation", "text-to-image", "image-to-text", "text-variation")],
        RandomLatents(dict(pipe.modalities.items())),
        copy.deepcopy(pipe.scheduler),
        min_snr=recipe.min_snr,
        multiples=flow_multiples(recipe),
    )


def _require_near(ours: dict[str, float], plain: dict[str, float]) -> None:
    for name, loss in plain.items():
        if not math.isclose(ours[name], loss, rel_tol=_TOLERANCE):
            raise RuntimeError(f"{name}: the losses are {ours[name]:.4f} and, in the plain loop, {loss:.4f}.")
