"""How a model is trained, on whatever data: options that the command line and run.yaml derive from."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, field_validator

from versatile_diffusion.bundled import DEFAULT_MODEL
from versatile_diffusion.data.filters import PAPER, SampleFilters
from versatile_diffusion.fields import Flag
from versatile_diffusion.training.settings.choices import (
    AveragePlace,
    CachePolicy,
    GradientScales,
    OptimizerName,
    Precision,
    PredictionType,
    RateSchedule,
    Sharding,
    Trained,
)
from versatile_diffusion.training.settings.dropout import ContextDropout
from versatile_diffusion.training.settings.stage_settings import Recipe
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
        Field(description="muon for what has learnt nothing yet; adamw-8bit has moments in a quarter of the memory."),
        _steps,
    ] = OptimizerName.ADAMW
    learning_rate: Annotated[
        Number, Field(gt=0, le=1, description="The highest one; 0.0025 for what muon begins."), _steps
    ] = 1e-3
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
    shuffle_tags: Annotated[
        bool, Field(strict=True, description="Captions are tags with commas between them: draw their order."), _learnt
    ] = False
    tag_dropout: Annotated[
        Number, Field(ge=0, lt=1, description="Share of the tags that is left out of a caption."), _learnt
    ] = 0.0
    keep_tags: Annotated[
        int, Field(ge=0, strict=True, description="Tags at the beginning that stay there, and always."), _learnt
    ] = 0
    min_snr: Annotated[
        Number | None, Field(gt=0, description="Caps the weight of little noised steps (arXiv 2303.09556)."), _learnt
    ] = 5.0
    noise_offset: Annotated[
        Number,
        Field(ge=0, le=1, description="Noise that is the same all over a channel, for very dark or bright images."),
        _learnt,
    ] = 0.0
    timestep_shift: Annotated[
        Number,
        Field(ge=0.1, le=10, description="Above 1, noisy latents are learnt more often (arXiv 2403.03206)."),
        _learnt,
    ] = 1.0
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
