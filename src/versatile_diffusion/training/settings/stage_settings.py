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
    stages: dict[str, object] = {}
    for name, rate in STAGE_RATES.items():
        stage = values.get(name)
        if stage is None or isinstance(stage, Mapping):
            own = cast("Mapping[str, object]", stage or {})  # the keys are checked later
            told = {key: value for key, value in own.items() if value is not None}
            stages[name] = {"learning_rate": rate * scale, **told}
    return stages
