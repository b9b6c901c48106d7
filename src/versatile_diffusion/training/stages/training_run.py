"""A run: a folder in which the stages of a model are trained, and what it says of how they were."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from torch import nn

from versatile_diffusion.files import write_whole
from versatile_diffusion.processes import processes
from versatile_diffusion.training.loop.checkpoint import checkpoints, identity, read_memory
from versatile_diffusion.training.loop.machine import commit, hardware, program
from versatile_diffusion.training.loop.task import Task, TrainingConfig
from versatile_diffusion.training.loop.trackers import Tracking
from versatile_diffusion.training.loop.trainer import OnPreview, Trainer
from versatile_diffusion.training.settings.config import differences
from versatile_diffusion.training.stages.model_recipe import EncoderRecipe

RECORD = "run.json"

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class TrainingRun:
    """A folder of a run. Each stage has a folder in it, and goes on from its newest checkpoint.

    Attributes:
        folder: is made if missing.
        recipe: what is trained, and how.
        command: what the user called: "train", and the name of the world.
        mixed_precision: "bf16" or "no".
        start: the model to go on from, or None for random weights.
        former_names: the names that stages had in runs of earlier versions, which are read under these.
    """

    folder: Path
    recipe: EncoderRecipe
    command: tuple[str, ...]
    mixed_precision: str = "no"
    start: str | Path | None = None
    former_names: Mapping[str, str] = field(default_factory=dict[str, str])

    def stage_folder(self, stage: str) -> Path:
        """Returns where a stage is trained: under its former name if an earlier version began it."""
        former = self.folder / self.former_names.get(stage, stage)
        return former if former.is_dir() else self.folder / stage

    def config(self, stage: str) -> TrainingConfig:
        """Returns how a stage is trained."""
        config: TrainingConfig = getattr(self.recipe, stage)
        return config

    def identity(self, stage: str) -> str:
        """Returns what a stage has come to, in words; see `checkpoint.identity`."""
        return identity(self.stage_folder(stage))

    def hours(self, stage: str) -> float | None:
        """Returns how long a stage was trained, or None if it was not."""
        whole = checkpoints(self.stage_folder(stage))
        seconds = read_memory(whole[-1]).get("seconds") if whole else None
        return None if seconds is None else seconds / 3600

    def train(self, stage: str, task: Task[M]) -> M:
        """Trains a stage to its last step, or reads it if it is done, and returns its model on the CPU, frozen."""
        if processes().is_main_process:
            self._record()
        folder, show = self.stage_folder(stage), self.on_preview(stage)
        tracking = self.tracking(stage)
        trainer = Trainer(task, self.config(stage), folder, stage, self.mixed_precision, show, tracking=tracking)
        return trainer.run().cpu().eval().requires_grad_(False)

    def on_preview(self, stage: str) -> OnPreview | None:
        """Returns what is called with the previews of a stage, besides its trackers."""
        return None

    def tracking(self, stage: str) -> Tracking | None:
        """Returns where a stage is followed besides its folder; None is where every training is."""
        return None

    def require_same_latents(self, stage: str, origins: Mapping[str, str]) -> None:
        """Remembers what the latents of a stage come from.

        Raises:
            ValueError: if the stage was begun on latents of another origin.
        """
        file = self.stage_folder(stage) / "latents.json"
        begun = json.loads(file.read_text()) if file.exists() and checkpoints(file.parent) else origins
        if changed := [
            f"{part} of {begun[part]}" for part, origin in origins.items() if begun.get(part, origin) != origin
        ]:
            raise ValueError(
                f"{file.parent} was begun on {', '.join(changed)}, which changed since then. Remove it, and the stages "
                "after it, to train them anew, or choose another --run."
            )
        if processes().is_main_process:
            write_whole(file, (json.dumps(dict(origins), indent=2) + "\n").encode())

    @property
    def options(self) -> list[str]:
        """What the user called it with, beside the command."""
        options = [] if self.start is None else ["--start", str(self.start)]
        settings = differences(self.recipe, type(self.recipe)())  # pyright: ignore[reportCallIssue] - all have defaults
        return options + [word for setting in settings for word in ("--set", setting)]

    def _record(self) -> None:
        """Writes down how the run is made, for its model card."""
        facts = {
            "command": shlex.join([*program(), *self.command, *self.options]),
            "start": None if self.start is None else str(self.start),
            "commit": commit(),
            "hardware": hardware(),
            "mixed_precision": self.mixed_precision,
            "recipe": asdict(self.recipe),
        }
        write_whole(self.folder / RECORD, (json.dumps(facts, indent=2, default=str) + "\n").encode())
