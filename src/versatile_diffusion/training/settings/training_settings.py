"""All that training on one's own data can be told, declared once: the command line and run.yaml derive from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Self, cast

from pydantic import Field, field_validator, model_validator

from versatile_diffusion.data.filters import SampleFilters
from versatile_diffusion.data.tags import CaptionTags
from versatile_diffusion.flows import Flow
from versatile_diffusion.training.settings.choices import OptimizerName, PredictionType, TrackerName, Trained
from versatile_diffusion.training.settings.stage_settings import (
    ENCODER_STAGES,
    MUON_RATE,
    PRESET,
    STAGE_RATES,
    Recipe,
    StageSettings,
    with_muon_rates,
    with_rates,
)
from versatile_diffusion.training.settings.training_options import TrainingOptions


class TrainingSettings(TrainingOptions):
    """How a model is trained on a data set."""

    data: Annotated[str, Field(min_length=1, description="A folder, a file, a pattern of files, or hub:owner/name.")]
    flows: Annotated[
        tuple[str, ...],
        Field(description="What is learnt, such as text-to-image; by default all that the data teaches."),
    ] = ()
    log_with: Annotated[
        tuple[TrackerName, ...],
        Field(min_length=1, description="Where it can be followed: tensorboard, wandb, trackio, several, or none."),
    ] = (TrackerName.TENSORBOARD,)

    encoders: Annotated[
        tuple[str, ...],
        Field(description="Where encoders come from that the start lacks: models, or folders of CLIP or T5."),
    ] = ()

    one_flow: Annotated[StageSettings, Field(description="Of the first stage of the recipe.")] = StageSettings()
    two_flow: Annotated[StageSettings, Field(description="Of the second stage.")] = StageSettings()
    four_flow: Annotated[StageSettings, Field(description="Of the last stage.")] = StageSettings()

    kl: Annotated[StageSettings, Field(description="Of the autoencoder of pictures, from nothing.")] = StageSettings()
    kl_adversarial: Annotated[StageSettings, Field(description="Of its discriminator.")] = StageSettings()
    clip: Annotated[StageSettings, Field(description="Of the context encoders, from nothing.")] = StageSettings()
    optimus: Annotated[StageSettings, Field(description="Of the autoencoder of texts.")] = StageSettings()

    @property
    def command(self) -> list[str]:
        """The words of the command that trains so, after `vd` and before its options."""
        return ["train", self.data]

    @property
    def not_options(self) -> tuple[str, ...]:
        """The settings that `command` names."""
        return ("data",)

    @property
    def filters(self) -> SampleFilters:
        """Which samples are wanted: what was asked for, and of the preset what was not."""
        asked = {name: getattr(self, name) for name in FILTERS if getattr(self, name) is not None}
        return replace(self.filter.filters, **asked)

    @property
    def tags(self) -> CaptionTags:
        """How the tags of captions are varied."""
        return CaptionTags(self.shuffle_tags, self.tag_dropout, self.keep_tags)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.keep_tags and not self.tags.are_varied:
            raise ValueError("keep_tags says which tags stay: set shuffle_tags or tag_dropout with it.")
        if self.zero_snr and self.prediction_type is PredictionType.EPSILON:
            raise ValueError(NO_NOISE_TOLD)
        return self

    @field_validator("flows")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(Flow.parse(name)) for name in value)

    @field_validator("log_with", mode="before")
    @classmethod
    def _spelt_in_a_list(cls, value: object) -> object:
        """The words; none is what a file of settings may mean where YAML reads nothing."""
        words = cast("Sequence[object]", value if isinstance(value, list | tuple) else [value])
        return ["none" if word is None else word for word in words]

    @field_validator("log_with")
    @classmethod
    def _one_way(cls, value: tuple[TrackerName, ...]) -> tuple[TrackerName, ...]:
        if TrackerName.NONE in value and len(set(value)) > 1:
            raise ValueError(f"log_with is none or some, got {', '.join(value)}.")
        return tuple(dict.fromkeys(value))

    @property
    def from_nothing(self) -> bool:
        """Whether all stages of a model are trained, autoencoders and context encoders as well."""
        return self.start.startswith(PRESET) and not self.encoders

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, values: Mapping[str, object]) -> Mapping[str, object]:
        """What has learnt nothing, or learns in stages, is trained as a whole; stages have the paper's rates.

        What has learnt nothing learns to predict the velocity, with all noise weighed alike, with Muon, at rates of
        its own: it learns several times more of each sample so.
        """
        values = {name: "none" if value is None and cls._knows_none(name) else value for name, value in values.items()}
        new, encoders = str(values.get("start")).startswith(PRESET), values.get("encoders")
        values = {"train": Trained.ALL, **values} if new else values
        staged = (
            any(name in values for name in STAGE_RATES) if "recipe" not in values else values["recipe"] == Recipe.PAPER
        )
        if staged and (encoders or not new):
            return {"recipe": Recipe.PAPER, "train": Trained.ALL, **values, **with_rates(values)}
        if not new:
            return values
        values = {"optimizer": OptimizerName.MUON, "prediction_type": PredictionType.V_PREDICTION, **values}
        if values["prediction_type"] == PredictionType.V_PREDICTION:
            values = {"min_snr": None, **values}
        if values["optimizer"] != OptimizerName.MUON or "learning_rate" in values:
            return values
        return {**values, "learning_rate": MUON_RATE} if encoders else {**values, **with_muon_rates(values)}

    @classmethod
    def _knows_none(cls, name: str) -> bool:
        """Whether "none", which YAML takes for nothing, is a value of a field."""
        kind = cls.model_fields[name].annotation if name in cls.model_fields else None
        return isinstance(kind, type) and issubclass(kind, StrEnum) and "none" in [str(each) for each in kind]

    @model_validator(mode="after")
    def _in_stages(self) -> TrainingSettings:
        if self.from_nothing:
            if self.flows:
                raise ValueError(
                    "The flows of a model from nothing are those of its stages: set one_flow.flows, two_flow.flows, …"
                )
            return self
        staged = self.recipe is Recipe.PAPER
        if alone := [name for name in ENCODER_STAGES if getattr(self, name) != StageSettings()]:
            raise ValueError(f"{', '.join(alone)} are stages of a model from nothing: take --start preset:NAME.")
        if not staged and (set_ := [name for name in STAGE_RATES if getattr(self, name) != StageSettings()]):
            raise ValueError(
                f"{', '.join(set_)} are stages of the paper's recipe: set recipe=paper, or leave them out."
            )
        if staged and self.train is Trained.LORA:
            raise ValueError("The recipe trains whole layers, not a LoRA: take train=all, data or context.")
        if staged and self.flows:
            raise ValueError("The flows of a recipe are those of its stages: set one_flow.flows, two_flow.flows, …")
        return self

    @model_validator(mode="after")
    def _learnt_before(self) -> TrainingSettings:
        if self.train is not Trained.ALL and self.start.startswith(PRESET):
            raise ValueError(
                f"train={self.train} changes a part of what a model has learnt, and {self.start:.80} has learnt "
                "nothing: take train=all, or another start."
            )
        return self


NO_NOISE_TOLD = (
    "zero_snr ends the noise schedule in nothing but noise, of which no noise can be told apart: set prediction_type "
    "to v_prediction or sample with it."
)
"""Why a model that predicts the noise cannot begin there."""

FILTERS = ("min_similarity", "max_nsfw", "max_watermark", "min_aspect", "max_aspect", "min_area")
"""Settings that are fields of `SampleFilters`."""

MAY_CHANGE = (
    "steps",
    "ema",
    "checkpoint_every",
    "sheet_every",
    "strict",
    "cache",
    "cache_limit",
    "precision",
    "sharding",
    "checkpointing",
    "log_with",
    "push_to_hub",
    *STAGE_RATES,
    *ENCODER_STAGES,
)
"""Settings that a run may go on with at other values."""

MAY_CHANGE_UNTIL_DONE = ("learning_rate", "warmup_steps", "clip_norm")
"""Settings that may change, too, while a run is not done: one that diverged may go on more carefully."""
