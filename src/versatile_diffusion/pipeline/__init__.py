"""The pipeline: a request is encoded, sampled and decoded."""

from typing import Any


def __getattr__(name: str) -> Any:
    """The pipeline's class, which was defined here and stays importable from here."""
    if name != "VersatileDiffusionPipeline":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("versatile_diffusion.applications.versatile"), name)
