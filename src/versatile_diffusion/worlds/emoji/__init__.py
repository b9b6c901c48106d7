"""Emoji: everyday things that several hands have drawn, in several treatments, with the model that learns them."""

from .world import WORLD

__all__ = ["WORLD"]
