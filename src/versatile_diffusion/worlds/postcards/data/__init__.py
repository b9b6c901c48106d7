"""The data set: an endless world of captioned little pictures, drawn from a seed."""

from .captions import STOP, VOCABULARY, caption, choose_mention, instruction, parse, tokenize
from .dataset import Postcard, Postcards
from .render import render
from .scene import ATTRIBUTES, Scene, Split, is_held_out, sample_scene

__all__ = [
    "ATTRIBUTES",
    "STOP",
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
    "tokenize",
]
