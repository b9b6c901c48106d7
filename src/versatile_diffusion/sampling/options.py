"""How outputs are sampled, said once.

Python, the command line, HTTP, lists of prompts, the studio and the record of an output all derive from `Sampling`:
an option that is declared here exists in all of them. CONTRIBUTING.md shows how one is added.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Self, TypeVar

from pydantic import Field, field_validator

from versatile_diffusion.fields import Flag
from versatile_diffusion.validation import Integer, Number, Strict


class SchedulerName(StrEnum):
    """Schedulers of diffusers by short names; see `schedulers.SCHEDULERS`."""

    DDIM = "ddim"
    DPM = "dpm"
    UNIPC = "unipc"
    EULER = "euler"
    PNDM = "pndm"
    LMS = "lms"
    LCM = "lcm"
    TCD = "tcd"


FEW_STEP_SCHEDULERS = (SchedulerName.LCM, SchedulerName.TCD)
"""Those that sample what was distilled to few steps."""


class PresetName(StrEnum):
    """Ways to sample; see `presets`."""

    QUALITY = "quality"
    FAST = "fast"


Share = Annotated[Number, Field(ge=0, le=1)]
Side = Annotated[Integer, Field(ge=1, le=65536)]


class Sampling(Strict):
    """The options of sampling, each with its bounds and what it does."""

    preset: Annotated[
        PresetName | None,
        Field(
            description="quality takes 50 steps. fast takes 4 without guidance where the model has learnt that, and 8 "
            "of a better solver where not. What else is given overrules it."
        ),
    ] = None
    num_inference_steps: Annotated[
        Integer | None,
        Field(ge=1, le=1000, description="Steps of the whole schedule: 50, or those of the preset, if left out."),
        Flag("--steps"),
    ] = None
    guidance_scale: Annotated[
        Number | None,
        Field(ge=-1e6, le=1e6, description="How closely to follow; 1 is no guidance. The model's own if left out."),
    ] = None
    guidance_rescale: Annotated[
        Number,
        Field(ge=0, le=1, description="How far guided predictions are brought back to the spread of unguided ones."),
    ] = 0.0
    guidance_interval: Annotated[
        tuple[Number, Number] | None,
        Field(description="Guide only where the noise level, 0 to 1, lies between these, such as 0.2,0.8."),
        Flag(metavar="LOW,HIGH"),
    ] = None
    strength: Annotated[Number, Field(ge=0, le=1, description="Of a start: 1 forgets it, 0 keeps it.")] = 1.0
    eta: Annotated[Number, Field(ge=0, le=1, description="How much noise DDIM draws anew in each step.")] = 0.0
    scheduler: Annotated[SchedulerName | None, Field(description="The sampler; the model's own if left out.")] = None
    height: Annotated[Side | None, Field(description="Of outputs, in pixels; the model's own if left out.")] = None
    width: Annotated[Side | None, Field(description="Of outputs, in pixels; the model's own if left out.")] = None

    @field_validator("guidance_scale", mode="before")
    @classmethod
    def _is_finite(cls, scale: object) -> object:
        if isinstance(scale, float) and not math.isfinite(scale):
            raise ValueError(f"guidance_scale must be a finite number, got {scale}.")
        return scale

    @field_validator("guidance_interval")
    @classmethod
    def _is_interval(cls, interval: tuple[float, float] | None) -> tuple[float, float] | None:
        if interval is not None and not 0 <= interval[0] < interval[1] <= 1:
            raise ValueError(f"guidance_interval must be (low, high) with 0 <= low < high <= 1, got {interval}.")
        return interval

    @field_validator("scheduler", mode="before")
    @classmethod
    def _is_known(cls, name: object) -> object:
        if isinstance(name, str) and name not in set(SchedulerName):
            raise ValueError(f"A scheduler is one of {', '.join(SchedulerName)}, got {name!r}.")
        return name

    @property
    def is_guided(self) -> bool:
        """Whether guidance is asked for, which is not so where that is left to the model."""
        return self.guidance_scale not in (None, 1) or self.guidance_interval is not None

    @property
    def sampling(self) -> Sampling:
        """These options alone, without what a subclass adds."""
        return Sampling.model_construct(**{name: getattr(self, name) for name in Sampling.model_fields})

    def replaced(self, **changes: object) -> Self:
        """Returns the same with other values, which are checked."""
        return type(self).model_validate({name: getattr(self, name) for name in type(self).model_fields} | changes)


S = TypeVar("S", bound=Sampling)
