"""Postcards: an endless world of captioned little pictures, drawn from a seed."""

from ..sheet import contact_sheet
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
    "contact_sheet",
    "instruction",
    "is_held_out",
    "parse",
    "render",
    "sample_scene",
]
