"""The pipeline: what users call."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from versatile_diffusion.pipeline.pipeline import VersatileDiffusionPipeline

__all__ = ["VersatileDiffusionPipeline"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from versatile_diffusion.pipeline import pipeline  # when asked for, because PyTorch takes seconds

    return getattr(pipeline, name)
