"""What can be chosen of how steps are taken, for those who must not import PyTorch to tell it."""

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


class PredictionType(StrEnum):
    """What the diffuser learns to predict, as diffusers' schedulers call it."""

    EPSILON = "epsilon"
    V_PREDICTION = "v_prediction"
    SAMPLE = "sample"


class GradientScales(StrEnum):
    """Factors of the gradients by groups of layers."""

    NONE = "none"
    PAPER = "paper"
