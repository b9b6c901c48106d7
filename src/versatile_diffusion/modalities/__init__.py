"""Modalities: what is special about images, texts and whatever comes next, one file each."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from versatile_diffusion.modalities.base import Modality
    from versatile_diffusion.modalities.image import ImageModality
    from versatile_diffusion.modalities.text import TextModality

__all__ = ["ImageModality", "Modality", "TextModality"]

# Loaded when asked for: a server reads images without the libraries of their models, which take seconds.
_MODULES = {"ImageModality": "image", "Modality": "base", "TextModality": "text"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
