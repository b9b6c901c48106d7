"""Modalities: what is special about pictures, texts and whatever comes next, one file each."""

from versatile_diffusion.modalities.base import Modality
from versatile_diffusion.modalities.image import ImageModality
from versatile_diffusion.modalities.text import TextModality

__all__ = ["ImageModality", "Modality", "TextModality"]
