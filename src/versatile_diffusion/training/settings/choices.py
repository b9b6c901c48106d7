"""What can be chosen of training, by name, for those who must not import PyTorch to tell it."""

from __future__ import annotations

from enum import StrEnum


class OptimizerName(StrEnum):
    """What changes the weights; see `ParameterOptimizer`."""

    ADAMW = "adamw"
    ADAMW_8BIT = "adamw-8bit"
    MUON = "muon"


class AveragePlace(StrEnum):
    """Where the average of the weights is kept: where they are, in the memory of the CPU, or nowhere."""

    DEVICE = "device"
    CPU = "cpu"
    NONE = "none"

    @classmethod
    def _missing_(cls, value: object) -> AveragePlace | None:
        return cls.NONE if value is None else None  # as which YAML reads "none"


class PredictionType(StrEnum):
    """What the diffuser learns to predict, as diffusers' schedulers call it."""

    EPSILON = "epsilon"
    V_PREDICTION = "v_prediction"
    SAMPLE = "sample"


class GradientScales(StrEnum):
    """Factors of the gradients by groups of layers."""

    NONE = "none"
    PAPER = "paper"


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
    FP16 = "fp16"


class Sharding(StrEnum):
    """Whether several processes share the model out among them."""

    AUTO = "auto"
    FULL = "full"
    NONE = "none"


class RateSchedule(StrEnum):
    """How the learning rate goes on after its warm-up."""

    COSINE = "cosine"
    CONSTANT = "constant"


class CachePolicy(StrEnum):
    """Whether latents and context tokens are computed before the first step, and kept."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class TrackerName(StrEnum):
    """Where a run is followed besides its folder."""

    TENSORBOARD = "tensorboard"
    WANDB = "wandb"
    TRACKIO = "trackio"
    NONE = "none"
