"""The pipeline: what users call."""

from typing import TYPE_CHECKING, Any

from versatile_diffusion._moved import former_names

if TYPE_CHECKING:
    from versatile_diffusion.pipeline.pipeline import VersatileDiffusionPipeline

__all__ = ["VersatileDiffusionPipeline"]

_former = former_names(
    __name__,
    {
        "CallbackOnStepEnd": "versatile_diffusion.pipeline.pipeline:CallbackOnStepEnd",
        "Modalities": "versatile_diffusion.pipeline.pipeline:Modalities",
    },
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        return _former(name)
    from versatile_diffusion.pipeline import pipeline  # when asked for, because PyTorch takes seconds

    return getattr(pipeline, name)
