"""What people can ask a model of emoji for: its things, and the looks that it gives them."""

from __future__ import annotations

from pathlib import Path

from versatile_diffusion.worlds.base import KnownThing, Repertoire
from versatile_diffusion.worlds.emoji.data.captions import LAST, with_article
from versatile_diffusion.worlds.emoji.data.hands import HANDS
from versatile_diffusion.worlds.emoji.data.things import Thing, read_thing_list


def repertoire(folder: Path) -> Repertoire:
    """Returns what a model can be asked for.

    Args:
        folder: of the model.
    """
    hands = {hand.style: f", {hand.style.lower()} style" for hand in HANDS}
    treatments = {name: f", {phrases[0].format(color='blue')}" for name, phrases in LAST.items()}
    return Repertoire([_known(thing) for thing in read_thing_list(folder)], hands | treatments)


def _known(thing: Thing) -> KnownThing:
    name = thing.name.lower()
    words = dict.fromkeys(word for said in (name, *thing.keywords, thing.group) for word in said.lower().split())
    return KnownThing(with_article(name), tuple(words), "".join(chr(int(code, 16)) for code in thing.id.split("-")))
