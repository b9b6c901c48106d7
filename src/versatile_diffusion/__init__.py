"""Versatile Diffusion: texts, pictures and variations of both from one diffusion model (arXiv 2211.08332)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from versatile_diffusion import _moved, lean

if TYPE_CHECKING:
    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.context import Context
    from versatile_diffusion.modalities.sounds import Sound
    from versatile_diffusion.sampling.presets import FAST, QUALITY

__version__ = "0.1.0"
__all__ = ["FAST", "QUALITY", "Context", "Sound", "VersatileDiffusionPipeline", "__version__"]

# Loaded when asked for, because PyTorch takes seconds.
_MODULES = {
    "Context": "versatile_diffusion.context",
    "FAST": "versatile_diffusion.sampling.presets",
    "QUALITY": "versatile_diffusion.sampling.presets",
    "Sound": "versatile_diffusion.modalities.sounds",
    "VersatileDiffusionPipeline": "versatile_diffusion.applications.versatile",
}


_moved.install()
lean.install()


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
