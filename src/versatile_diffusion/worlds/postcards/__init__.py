"""Postcards: an endless world of captioned little pictures, drawn from a seed."""

from .captions import VOCABULARY, caption, choose_mention, instruction, parse
from .dataset import Postcard, Postcards
from .render import render
from .scene import ATTRIBUTES, Scene, Split, is_held_out, sample_scene

__all__ = [
    "ATTRIBUTES",
    "VOCABULARY",
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
