"""The catalogue: which hand has drawn which thing, read from the packages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from versatile_diffusion.worlds.emoji.data.artwork import Artwork, IconSet, ImageArtwork
from versatile_diffusion.worlds.emoji.data.hands import EMOJIBASE, HANDS, STRANGER, THREE_D, Hand
from versatile_diffusion.worlds.emoji.data.packages import Package, fetch
from versatile_diffusion.worlds.emoji.data.split import holds_out_hand, holds_out_treatment
from versatile_diffusion.worlds.emoji.data.things import Thing, read_things
from versatile_diffusion.worlds.emoji.data.treatments import TREATMENTS, Treatment

FEWEST_HANDS = 4
"""So many must have drawn a thing for it to be one of the world's."""
FEWEST_FAMILIES = 2
"""A thing of which fewer are left to learn from is none of the world's: it would be strange altogether."""

_MISTAKEN = {("1F48F", "fxemoji"), ("2328", "fxemoji"), ("2602", "fxemoji"), ("1F68B", "fxemoji")}
"""What a set calls like a thing, but is another one (a kissing face, a piano, a closed umbrella) or is damaged."""


@dataclass(frozen=True)
class Cell:
    """What an image shows, but for where in it and how large."""

    thing: Thing
    hand: Hand
    treatment: Treatment

    @property
    def holds_out_hand(self) -> bool:
        """Whether the thing by this hand is never learnt from."""
        return holds_out_hand(self.thing.id, self.hand.family)

    @property
    def holds_out_treatment(self) -> bool:
        """Whether the thing in this treatment is never learnt from."""
        return holds_out_treatment(self.thing.id, self.treatment.name)

    @property
    def is_held_out(self) -> bool:
        """Whether it is never learnt from."""
        return self.holds_out_hand or self.holds_out_treatment


@dataclass(frozen=True)
class Catalog:
    """All things, and the drawings of them.

    Attributes:
        things: in the order of emojibase.
        drawings: by the id of the thing and the name of the hand.
    """

    things: tuple[Thing, ...]
    drawings: Mapping[tuple[str, str], Artwork]

    @cached_property
    def pairs(self) -> tuple[tuple[Thing, Hand], ...]:
        """All things with all the hands that learning may know."""
        return tuple(pair for thing in self.things for pair in self._pairs_of(thing, HANDS))

    @cached_property
    def strange_pairs(self) -> tuple[tuple[Thing, Hand], ...]:
        """All things that the stranger has drawn."""
        return tuple(pair for thing in self.things for pair in self._pairs_of(thing, (STRANGER,)))

    def artwork(self, thing: Thing, hand: Hand) -> Artwork:
        """Returns the drawing of a thing by a hand that has drawn it."""
        return self.drawings[thing.id, hand.name]

    def _pairs_of(self, thing: Thing, hands: tuple[Hand, ...]) -> list[tuple[Thing, Hand]]:
        return [(thing, hand) for hand in hands if (thing.id, hand.name) in self.drawings]


def treatments_of(thing: Thing) -> tuple[Treatment, ...]:
    """Returns the treatments after which a thing can still be told from the others, plain first."""
    return tuple(
        each
        for each in TREATMENTS.values()
        if (each.keeps_color or not thing.needs_color) and (each.keeps_inside or thing.has_shape)
    )


def needed_packages() -> tuple[Package, ...]:
    """Returns all packages that the catalogue is read from."""
    return (EMOJIBASE, *(hand.package for hand in (*HANDS, STRANGER)))


def read_catalog(packages: Path, say: Callable[[str], None] | None = None) -> Catalog:
    """Reads the catalogue.

    Args:
        packages: the folder of the packages.
        say: fetches what is missing there, and is told of it; see `fetch`. Without it all must be there.

    Raises:
        FileNotFoundError: if a package is missing.
        ValueError: if one is not the pinned one.
    """
    if say is not None:
        fetch(needed_packages(), packages, say)
    names = ("en/data.json", "meta/groups.json", "meta/unicode-names.json")
    files = EMOJIBASE.read(packages, lambda name: name in names)
    listed = read_things(*(files[name] for name in names))
    drawings = {
        (thing.id, hand.name): artwork
        for hand in (*HANDS, STRANGER)
        for thing, artwork in _own(_drawn(hand, packages, listed)).items()
    }
    things = tuple(
        thing for thing in listed if _is_carried([h for h in HANDS if (thing.id, h.name) in drawings], thing)
    )
    known = {thing.id for thing in things}
    return Catalog(things, {key: artwork for key, artwork in drawings.items() if key[0] in known})


def _is_carried(hands: Sequence[Hand], thing: Thing) -> bool:
    """Whether so many hands have drawn a thing that enough is left to learn it from."""
    learnt = {hand.family for hand in hands if not holds_out_hand(thing.id, hand.family)}
    return len(hands) >= FEWEST_HANDS and len(learnt) >= FEWEST_FAMILIES


def _drawn(hand: Hand, packages: Path, things: list[Thing]) -> dict[Thing, Artwork]:
    """What a hand has drawn of these things."""
    if hand.name == THREE_D:
        return _rendered(hand, packages, things)
    icons = IconSet.model_validate_json(hand.package.read(packages, lambda name: name == "icons.json")["icons.json"])
    found: dict[Thing, Artwork] = {}
    for thing in things:
        if (thing.id, hand.name) in _MISTAKEN:
            continue
        artwork = next((drawn for slug in thing.slugs if (drawn := icons.artwork(slug)) is not None), None)
        if artwork is not None:
            found[thing] = artwork
    return found


def _own(drawn: Mapping[Thing, Artwork]) -> dict[Thing, Artwork]:
    """Drawings without those that stand for several things, as one cat does for two of them."""
    count = Counter(drawn.values())
    return {thing: artwork for thing, artwork in drawn.items() if count[artwork] == 1}


def _rendered(hand: Hand, packages: Path, things: list[Thing]) -> dict[Thing, Artwork]:
    files = hand.package.read(packages, lambda name: name.endswith(".webp"))
    by_id = {_without_variation(Path(name).stem): content for name, content in files.items()}
    return {
        thing: ImageArtwork(by_id[identity]) for thing in things if (identity := _without_variation(thing.id)) in by_id
    }


def _without_variation(code_points: str) -> str:
    """Code points without the one that only asks for a coloured picture."""
    return "-".join(each for each in code_points.lower().split("-") if each != "fe0f")
