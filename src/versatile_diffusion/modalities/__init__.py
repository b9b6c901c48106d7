"""Modalities: what is special about images, texts, sounds and whatever comes next."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from versatile_diffusion.modalities.base import Modality
    from versatile_diffusion.modalities.image import ImageModality
    from versatile_diffusion.modalities.sound import SoundModality
    from versatile_diffusion.modalities.text import TextModality

__all__ = ["ImageModality", "Modality", "SoundModality", "TextModality"]

# Loaded when asked for: a server reads images without the libraries of their models, which take seconds.
_MODULES = {"ImageModality": "image", "Modality": "base", "SoundModality": "sound", "TextModality": "text"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
