"""All that training on one's own data can be told, declared once: the command line and run.yaml derive from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from versatile_diffusion.bundled import DEFAULT_MODEL
from versatile_diffusion.data.filters import PAPER, SampleFilters
from versatile_diffusion.fields import Flag
from versatile_diffusion.flows import Flow
from versatile_diffusion.training.settings.choices import (
    AveragePlace,
    CachePolicy,
    GradientScales,
    OptimizerName,
    Precision,
    PredictionType,
    RateSchedule,
    Sharding,
    TrackerName,
    Trained,
)
from versatile_diffusion.training.settings.dropout import ContextDropout
from versatile_diffusion.training.settings.stage_settings import (
    ENCODER_STAGES,
    PRESET,
    STAGE_RATES,
    Recipe,
    StageSettings,
    with_rates,
)
from versatile_diffusion.validation import Number, Strict

DATA, LEARNT, STEPS, RUN = "Data", "What is trained", "Optimisation", "Run"
"""Under which a field stands in the help of the command line."""
_data, _learnt, _steps, _run = (Flag(panel=panel) for panel in (DATA, LEARNT, STEPS, RUN))


class FilterPreset(StrEnum):
    """Filters of samples that have a name."""

    NONE = "none"
    PAPER = "paper"

    @property
    def filters(self) -> SampleFilters:
        """What they are."""
        return PAPER if self is FilterPreset.PAPER else SampleFilters()


class TrainingOptions(Strict):
    """How a model is trained, on whatever data."""

    start: Annotated[
        str,
        Field(min_length=1, description="The model to begin from: a bundled one, a folder, a hub id, or preset:NAME."),
        Flag(metavar="MODEL", panel=LEARNT),
    ] = DEFAULT_MODEL
    train: Annotated[
        Trained,
        Field(description="lora: small changes, kept apart. context, data: these layers. all: every weight."),
        _learnt,
    ] = Trained.LORA
    recipe: Annotated[
        Recipe,
        Field(description="paper: with one flow, then two, then four, each stage from the last."),
        _learnt,
    ] = Recipe.NONE
    rank: Annotated[int, Field(ge=1, le=1024, strict=True, description="Of the LoRA."), _learnt] = 16
    steps: Annotated[int, Field(ge=1, strict=True, description="Updates of the weights."), _steps] = 500
    batch_size: Annotated[
        int, Field(ge=1, strict=True, description="Samples of each flow that are computed at once."), _steps
    ] = 8
    accumulate: Annotated[
        int, Field(ge=1, strict=True, description="Batches in an update, computed one after the other."), _steps
    ] = 1
    optimizer: Annotated[
        OptimizerName,
        Field(description="adamw-8bit remembers in a quarter of the memory; muon turns gradients of matrices."),
        _steps,
    ] = OptimizerName.ADAMW
    learning_rate: Annotated[Number, Field(gt=0, le=1, description="The highest one."), _steps] = 1e-3
    warmup_steps: Annotated[
        int, Field(ge=0, strict=True, description="Updates until it is at its highest."), _steps
    ] = 20
    schedule: Annotated[RateSchedule, Field(description="Of the learning rate after that."), _steps] = (
        RateSchedule.COSINE
    )
    weight_decay: Annotated[Number, Field(ge=0, le=1, description="Of all optimizers."), _steps] = 0.01
    clip_norm: Annotated[Number, Field(gt=0, description="The longest gradient allowed."), _steps] = 1.0
    gradient_scales: Annotated[
        GradientScales,
        Field(description="paper: those of its four-flow training. AdamW's steps hardly depend on them."),
        _steps,
    ] = GradientScales.NONE
    ema: Annotated[
        AveragePlace,
        Field(description="Where the average of the weights is kept, which a run gives in the end; none: the weights."),
        _steps,
    ] = AveragePlace.DEVICE
    ema_decay: Annotated[
        Number, Field(ge=0, lt=1, description="Share of the average of the weights that stays."), _steps
    ] = 0.99
    context_dropout: Annotated[
        ContextDropout,
        Field(description="Share of samples learnt without their context, for guidance; also by modality: text=0.2."),
        Flag(metavar="SHARE…", panel=LEARNT, many=True),
    ] = 0.1
    min_snr: Annotated[
        Number | None, Field(gt=0, description="Caps the weight of little noised steps (arXiv 2303.09556)."), _learnt
    ] = 5.0
    noise_offset: Annotated[
        Number,
        Field(ge=0, le=1, description="Noise that is the same all over a channel, for very dark or bright images."),
        _learnt,
    ] = 0.0
    prediction_type: Annotated[
        PredictionType | None,
        Field(description="What is predicted, if not what the model to begin from does."),
        _learnt,
    ] = None
    zero_snr: Annotated[
        bool, Field(strict=True, description="End the noise schedule in nothing but noise (arXiv 2305.08891)."), _learnt
    ] = False
    seed: Annotated[int, Field(ge=0, lt=2**32, strict=True, description="Of every draw."), _run] = 0
    size: Annotated[
        int | None,
        Field(ge=8, le=4096, strict=True, description="Pixels of a square; others have its area. The model's own."),
        _data,
    ] = None
    precision: Annotated[Precision, Field(description="auto is bf16 where it computes quicker."), _steps] = (
        Precision.AUTO
    )
    sharding: Annotated[
        Sharding,
        Field(description="full: processes share the model out (FSDP2). none: each has all. auto: by its size."),
        _run,
    ] = Sharding.AUTO
    checkpointing: Annotated[
        bool, Field(strict=True, description="Compute activations twice instead of keeping them: less memory."), _run
    ] = False
    validation: Annotated[
        Number, Field(ge=0, le=0.5, description="Share of the samples that is kept apart, to measure on."), _data
    ] = 0.05
    strict: Annotated[bool, Field(strict=True, description="End at the first sample that cannot be used."), _data] = (
        False
    )
    cache: Annotated[
        CachePolicy,
        Field(description="Encode all samples first: always, never (on the way), or auto, where they are few."),
        _data,
    ] = CachePolicy.AUTO
    cache_limit: Annotated[
        Number,
        Field(gt=0, description="GiB that latents and context tokens may take on disk."),
        Flag(metavar="GIB", panel=DATA),
    ] = 20.0
    filter: Annotated[
        FilterPreset,
        Field(description="paper: the filters of the paper's LAION; what follows changes single ones."),
        _data,
    ] = FilterPreset.NONE
    min_similarity: Annotated[
        Number | None,
        Field(ge=-1, le=1, description="Of image and caption, by the data or else by the model's own CLIP."),
        _data,
    ] = None
    max_nsfw: Annotated[
        Number | None, Field(ge=0, le=1, description="Of a probability in the data, if it has one."), _data
    ] = None
    max_watermark: Annotated[
        Number | None, Field(ge=0, le=1, description="Of a probability in the data, if it has one."), _data
    ] = None
    min_aspect: Annotated[Number | None, Field(gt=0, description="Of width by height."), _data] = None
    max_aspect: Annotated[Number | None, Field(gt=0, description="Of width by height."), _data] = None
    min_area: Annotated[Number | None, Field(ge=0, description="Pixels that an image must have more than."), _data] = (
        None
    )
    checkpoint_every: Annotated[int, Field(ge=1, strict=True, description="Updates between checkpoints."), _run] = 100
    sheet_every: Annotated[
        int, Field(ge=1, strict=True, description="Updates between sheets of what it makes."), _run
    ] = 100
    push_to_hub: Annotated[
        str | None,
        Field(min_length=1, description="The name that what was trained gets on the hub."),
        Flag(metavar="OWNER/NAME", panel=RUN),
    ] = None

    @field_validator("filter", "sharding", mode="before")
    @classmethod
    def _spelt(cls, value: object) -> object:
        """The word none, which a file of settings may mean where YAML reads nothing."""
        return "none" if value is None else value


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

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.zero_snr and self.prediction_type is PredictionType.EPSILON:
            raise ValueError(
                "zero_snr ends the noise schedule in nothing but noise, of which no noise can be told apart: set "
                "prediction_type to v_prediction or sample with it."
            )
        return self

    @field_validator("flows")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(Flow.parse(name)) for name in value)

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
        """What has learnt nothing, or learns in stages, is trained as a whole; stages have the paper's rates."""
        values = {name: "none" if value is None and cls._knows_none(name) else value for name, value in values.items()}
        new = str(values.get("start")).startswith(PRESET)
        if new and not values.get("encoders"):
            return {"train": Trained.ALL, **values}
        staged = any(name in values for name in STAGE_RATES)
        if values.get("recipe") == Recipe.PAPER or (staged and "recipe" not in values):
            values = {"recipe": Recipe.PAPER, "train": Trained.ALL, **values, **with_rates(values)}
        return {"train": Trained.ALL, **values} if new else values

    @classmethod
    def _knows_none(cls, name: str) -> bool:
        """Whether "none", which YAML takes for nothing, is a value of a field."""
        kind = cls.model_fields[name].annotation if name in cls.model_fields else None
        return isinstance(kind, type) and issubclass(kind, StrEnum) and "none" in [str(each) for each in kind]

    @model_validator(mode="after")
    def _in_stages(self) -> TrainingSettings:
        if self.from_nothing:
            if self.flows or self.zero_snr or self.filters != SampleFilters():
                raise ValueError(
                    "A model from nothing learns all flows from all samples: leave flows, filters and zero_snr out."
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
