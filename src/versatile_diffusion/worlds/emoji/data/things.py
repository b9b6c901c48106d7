"""Things: what emoji show, with the names and keywords that people gave them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

GROUPS = {
    0: "smileys",
    1: "people",
    3: "animals",
    4: "food",
    5: "travel",
    6: "activities",
    7: "objects",
    8: "symbols",
}
"""Groups of emojibase that things are taken from: neither components nor flags."""

THINGS = "things.json"
"""The file, in the folder of a data set and of a model, that lists all things."""

_JOINER = "200D"
_CLOCK_FACE = re.compile(r"(o.clock|-thirty)$")
_NO_THINGS = frozenset(
    {"alphanum", "arrow", "av-symbol", "gender", "geometric", "keycap", "math", "other-symbol", "punctuation"}
)
"""Subgroups of letters, buttons, arrows and plain shapes, which are read and not looked at, or hardly differ."""
_COLOR_WORDS = re.compile(r"\b(red|orange|yellow|green|blue|light blue|purple|brown|black|white|pink|grey)\b")
_TOLD_APART_BY_COLOR = frozenset({"heart", "book-paper"})


class Listed(BaseModel):
    """An emoji as emojibase lists it."""

    model_config = ConfigDict(extra="ignore")

    hexcode: str
    label: str
    tags: tuple[str, ...] = ()
    group: int | None = None
    subgroup: int | None = None
    order: int | None = None


@dataclass(frozen=True)
class Thing:
    """What an emoji shows, whoever draws it.

    Attributes:
        id: its code points in hexadecimal, with hyphens between them.
        name: in English, as a caption says it.
        keywords: what else people look for it by.
        group: one of `GROUPS`.
        subgroup: as emojibase names it, such as "animal-bird".
        slugs: the names under which sets of emoji may list it.
    """

    id: str
    name: str
    keywords: tuple[str, ...]
    group: str
    subgroup: str
    slugs: tuple[str, ...]

    @property
    def needs_color(self) -> bool:
        """Whether only its colour tells it apart from another thing, as a red heart from a blue one."""
        return self.subgroup in _TOLD_APART_BY_COLOR and _COLOR_WORDS.search(self.name) is not None

    @property
    def has_shape(self) -> bool:
        """Whether its outer shape alone may tell what it is: faces and signs are all circles and squares."""
        return self.group not in ("smileys", "symbols")


def read_things(listed: bytes, groups: bytes, unicode_names: bytes) -> list[Thing]:
    """Returns the things of emojibase that are told apart by eye, in its order.

    Left out are what is joined of several emoji, variants of skin and gender, flags, the 24 clock faces, and signs that
    are read.

    Args:
        listed: the file en/data.json of emojibase-data.
        groups: its file meta/groups.json.
        unicode_names: its file meta/unicode-names.json.
    """
    subgroups = TypeAdapter(dict[str, object]).validate_json(groups)["subgroups"]
    names = {int(number): name for number, name in TypeAdapter(dict[str, str]).validate_python(subgroups).items()}
    emoji, formal = (
        TypeAdapter(list[Listed]).validate_json(listed),
        TypeAdapter(dict[str, str]).validate_json(unicode_names),
    )
    things = [
        Thing(
            each.hexcode,
            _plain(each.label),
            _keywords(each),
            GROUPS[each.group],
            names[each.subgroup],
            slugs(each.label, formal.get(each.hexcode, "")),
        )
        for each in sorted(emoji, key=lambda each: each.order or 0)
        if each.group in GROUPS and each.subgroup is not None and _JOINER not in each.hexcode.split("-")
    ]
    return [thing for thing in things if _is_told_apart(thing)]


def read_thing_list(folder: Path) -> tuple[Thing, ...]:
    """Returns the things of a data set, or of a model.

    Raises:
        FileNotFoundError: if neither is in this folder.
    """
    file = folder / THINGS
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder} holds no data set of emoji: write it with `vd data emoji --output {folder}`."
        )
    return tuple(TypeAdapter(list[Thing]).validate_json(file.read_bytes()))


def slugs(label: str, formal: str = "") -> tuple[str, ...]:
    """Returns the names under which sets of emoji may list a thing.

    Args:
        label: as emojibase names it: most sets have it in lower case with hyphens between its words.
        formal: as Unicode names it: some sets have it in lower case without anything between its words.
    """
    plain = unicodedata.normalize("NFKD", label.lower().replace("’", "")).encode("ascii", "ignore").decode()
    spoken = plain.replace("&", " and ").replace(".", "")
    hyphened = re.sub(r"[^a-z0-9]+", "-", spoken).strip("-")
    joined = [re.sub(r"[^a-z0-9]+", "", each) for each in (formal.lower(), spoken)]
    return tuple(dict.fromkeys(each for each in (hyphened, *joined) if each))


def _is_told_apart(thing: Thing) -> bool:
    return thing.subgroup not in _NO_THINGS and _CLOCK_FACE.search(thing.name) is None


def _plain(label: str) -> str:
    kept = label.replace("’", "'").translate({ord(sign): None for sign in "“”⊛"})
    return " ".join(kept.replace(":", " with").split())


def _keywords(each: Listed) -> tuple[str, ...]:
    name = _plain(each.label)
    return tuple(dict.fromkeys(word for word in map(_plain, each.tags) if word != name))
