"""Postcards: an endless world of captioned little pictures, drawn from a seed, with the model that learnt from it."""

from .data import (
    ATTRIBUTES,
    VOCABULARY,
    Postcard,
    Postcards,
    Scene,
    Split,
    caption,
    choose_mention,
    instruction,
    is_held_out,
    parse,
    render,
    sample_scene,
)
from .world import WORLD

__all__ = [
    "ATTRIBUTES",
    "VOCABULARY",
    "WORLD",
    "Postcard",
    "Postcards",
    "Scene",
    "Split",
    "caption",
    "choose_mention",
    "instruction",
    "is_held_out",
    "parse",
    "render",
    "sample_scene",
]
