"""Postcards that one can hear: ambience, a voice and music, rendered from a scene."""

from .render import ClipComponents, render_components, render_sound, require_engines
from .waves import RATE, SECONDS

__all__ = ["RATE", "SECONDS", "ClipComponents", "render_components", "render_sound", "require_engines"]
