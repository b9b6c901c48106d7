"""All that `vd distill` can be told, declared once."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from versatile_diffusion.fields import Flag
from versatile_diffusion.training.settings.choices import Trained
from versatile_diffusion.training.settings.dropout import ContextDropout
from versatile_diffusion.training.settings.stage_settings import PRESET, Recipe
from versatile_diffusion.training.settings.training_options import LEARNT, STEPS, TrainingOptions
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.validation import Number

_learnt, _steps = (Flag(panel=panel) for panel in (LEARNT, STEPS))


class DistillationOptions(TrainingOptions):
    """How a model is distilled, on whatever data: how it is trained, with other defaults, and what only this needs."""

    steps: Annotated[int, Field(ge=1, strict=True, description="Updates of the weights."), _steps] = 2000
    batch_size: Annotated[
        int, Field(ge=1, strict=True, description="Samples of each flow that are computed at once."), _steps
    ] = 16
    context_dropout: Annotated[
        ContextDropout,
        Field(description="Share of samples learnt without their context; also by modality: text=0.2."),
        Flag(metavar="SHARE…", panel=LEARNT, many=True),
    ] = 0.0
    min_snr: Annotated[Number | None, Field(gt=0, description="Not used here: jumps are weighed alike."), _learnt] = (
        None
    )
    solver_steps: Annotated[
        int, Field(ge=1, le=1000, strict=True, description="Guided steps of the model that the LoRA saves."), _learnt
    ] = 50
    phases: Annotated[
        int,
        Field(ge=1, le=1000, strict=True, description="Steps that it shall sample in; with 1 it learns to take one."),
        _learnt,
    ] = 4
    guidance_scale: Annotated[
        Number | None,
        Field(ge=-1e6, le=1e6, description="Of the model while it is imitated; the model's own if left out."),
        _learnt,
    ] = None
    huber: Annotated[
        Number, Field(gt=0, description="Distances below it count by their squares, longer ones as they are."), _learnt
    ] = 1e-3


class DistillationSettings(DistillationOptions, TrainingSettings):
    """How a model is distilled on a data set."""

    @property
    def command(self) -> list[str]:
        """See `TrainingSettings.command`."""
        return ["distill", self.start, "--data", self.data]

    @property
    def not_options(self) -> tuple[str, ...]:
        """See `TrainingSettings.not_options`."""
        return ("data", "start")

    @model_validator(mode="after")
    def _is_lora(self) -> Self:
        if self.train is not Trained.LORA or self.recipe is not Recipe.NONE or self.start.startswith(PRESET):
            raise ValueError(
                "What is distilled is a model that has learnt, to a LoRA: leave train, recipe and presets out."
            )
        return self

    @model_validator(mode="after")
    def _phases_of_steps(self) -> Self:
        if self.phases > self.solver_steps:
            raise ValueError(
                f"{self.phases} phases are cut from solver_steps, and these are {self.solver_steps}: take fewer phases."
            )
        return self
