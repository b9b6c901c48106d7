"""All that training on one's own data can be told, declared once: the command line and run.yaml derive from it."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Annotated

from pydantic import Field, field_validator

from versatile_diffusion.bundled import DEFAULT_MODEL
from versatile_diffusion.fields import Flag
from versatile_diffusion.flows import Flow
from versatile_diffusion.training.reading.filters import PAPER, SampleFilters
from versatile_diffusion.validation import Strict


class Trained(StrEnum):
    """What of the diffuser is trained."""

    LORA = "lora"
    CONTEXT = "context"
    DATA = "data"
    ALL = "all"


class Precision(StrEnum):
    """What steps are computed in; weights that are trained are kept in float32."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


class Sharding(StrEnum):
    """Whether several processes share the model out among them."""

    AUTO = "auto"
    FULL = "full"
    NONE = "none"


class TrackerName(StrEnum):
    """Where a run is followed besides its folder."""

    TENSORBOARD = "tensorboard"
    WANDB = "wandb"
    TRACKIO = "trackio"
    NONE = "none"


class RateSchedule(StrEnum):
    """How the learning rate goes on after its warm-up."""

    COSINE = "cosine"
    CONSTANT = "constant"


DATA, LEARNT, STEPS, RUN = "Data", "What is trained", "Optimisation", "Run"
"""Under which a field stands in the help of the command line."""
_data, _learnt, _steps, _run = (Flag(panel=panel) for panel in (DATA, LEARNT, STEPS, RUN))


class CachePolicy(StrEnum):
    """Whether latents and context tokens are computed before the first step, and kept."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


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
        Field(min_length=1, description="The model to begin from: a bundled one, a folder, or a hub id."),
        Flag(metavar="MODEL", panel=LEARNT),
    ] = DEFAULT_MODEL
    train: Annotated[
        Trained,
        Field(description="lora: small changes, kept apart. context, data: these layers. all: every weight."),
        _learnt,
    ] = Trained.LORA
    rank: Annotated[int, Field(ge=1, le=1024, strict=True, description="Of the LoRA."), _learnt] = 16
    steps: Annotated[int, Field(ge=1, strict=True, description="Updates of the weights."), _steps] = 500
    batch_size: Annotated[int, Field(ge=1, strict=True, description="Samples of each flow in an update."), _steps] = 8
    learning_rate: Annotated[float, Field(gt=0, le=1, description="The highest one."), _steps] = 1e-3
    warmup_steps: Annotated[
        int, Field(ge=0, strict=True, description="Updates until it is at its highest."), _steps
    ] = 20
    schedule: Annotated[RateSchedule, Field(description="Of the learning rate after that."), _steps] = (
        RateSchedule.COSINE
    )
    weight_decay: Annotated[float, Field(ge=0, le=1, description="AdamW's."), _steps] = 0.01
    clip_norm: Annotated[float, Field(gt=0, description="The longest gradient allowed."), _steps] = 1.0
    ema_decay: Annotated[
        float, Field(ge=0, lt=1, description="Of the average of the weights, which is kept."), _steps
    ] = 0.99
    context_dropout: Annotated[
        float,
        Field(ge=0, le=1, description="Share of samples that are learnt without their context, for guidance."),
        _learnt,
    ] = 0.1
    min_snr: Annotated[
        float | None, Field(gt=0, description="Caps the weight of little noised steps (arXiv 2303.09556)."), _learnt
    ] = 5.0
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
        float, Field(ge=0, le=0.5, description="Share of the samples that is kept apart, to measure on."), _data
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
        float,
        Field(gt=0, description="GiB that latents and context tokens may take on disk."),
        Flag(metavar="GIB", panel=DATA),
    ] = 20.0
    filter: Annotated[
        FilterPreset,
        Field(description="paper: the filters of the paper's LAION; what follows changes single ones."),
        _data,
    ] = FilterPreset.NONE
    min_similarity: Annotated[
        float | None,
        Field(ge=-1, le=1, description="Of image and caption, by the data or else by the model's own CLIP."),
        _data,
    ] = None
    max_nsfw: Annotated[
        float | None, Field(ge=0, le=1, description="Of a probability in the data, if it has one."), _data
    ] = None
    max_watermark: Annotated[
        float | None, Field(ge=0, le=1, description="Of a probability in the data, if it has one."), _data
    ] = None
    min_aspect: Annotated[float | None, Field(gt=0, description="Of width by height."), _data] = None
    max_aspect: Annotated[float | None, Field(gt=0, description="Of width by height."), _data] = None
    min_area: Annotated[float | None, Field(ge=0, description="Pixels that an image must have more than."), _data] = (
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

    @property
    def filters(self) -> SampleFilters:
        """Which samples are wanted: what was asked for, and of the preset what was not."""
        asked = {name: getattr(self, name) for name in FILTERS if getattr(self, name) is not None}
        return replace(self.filter.filters, **asked)

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


FILTERS = ("min_similarity", "max_nsfw", "max_watermark", "min_aspect", "max_aspect", "min_area")
"""Settings that are fields of `SampleFilters`."""

MAY_CHANGE = (
    "steps",
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
)
"""Settings that a run may go on with at other values."""
