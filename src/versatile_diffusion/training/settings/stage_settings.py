"""What settings say of starts that have learnt nothing, and of training in stages."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, cast

from pydantic import Field

from versatile_diffusion.validation import Number, Strict

PRESET = "preset:"
"""What a start begins with that is random weights of some sizes."""


class Recipe(StrEnum):
    """Whether flows are learnt at once, or in stages."""

    NONE = "none"
    PAPER = "paper"


STAGE_RATES: Mapping[str, float] = {"one_flow": 1e-4, "two_flow": 1e-4, "four_flow": 5e-5}
"""The stages of the paper's recipe in their order, and its learning rates."""


ENCODER_STAGES = ("kl", "kl_adversarial", "clip", "optimus")
"""The stages that come before, where a model begins from nothing."""

MUON_RATE, MUON_ENCODER_RATE = 1e-2, 2.5e-3
"""The learning rates of a diffuser and of encoders that begin at random and are trained with Muon."""


class StageSettings(Strict):
    """What a stage of a recipe changes of the settings; None is what they say."""

    steps: Annotated[int | None, Field(ge=1, strict=True)] = None
    batch_size: Annotated[int | None, Field(ge=1, strict=True)] = None
    learning_rate: Annotated[Number | None, Field(gt=0, le=1)] = None
    flows: tuple[str, ...] | None = None


def with_rates(values: Mapping[str, object]) -> dict[str, object]:
    """The stages with a learning rate each: the paper's, or that of the settings in the paper's proportions."""
    given = values.get("learning_rate")
    scale = given / STAGE_RATES["one_flow"] if isinstance(given, int | float) else 1.0
    return _with_rates(values, {name: rate * scale for name, rate in STAGE_RATES.items()})


def with_muon_rates(values: Mapping[str, object]) -> dict[str, object]:
    """The learning rates of all stages from nothing, where the settings give none."""
    return {"learning_rate": MUON_RATE, **_with_rates(values, dict.fromkeys(ENCODER_STAGES, MUON_ENCODER_RATE))}


def _with_rates(values: Mapping[str, object], rates: Mapping[str, float]) -> dict[str, object]:
    """Stages with these learning rates, unless they have their own."""
    stages: dict[str, object] = {}
    for name, rate in rates.items():
        stage = values.get(name)
        if stage is None or isinstance(stage, Mapping):
            own = cast("Mapping[str, object]", stage or {})  # the keys are checked later
            told = {key: value for key, value in own.items() if value is not None}
            stages[name] = {"learning_rate": rate, **told}
    return stages
