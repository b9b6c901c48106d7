import json
from dataclasses import asdict
from pathlib import Path

from tests.unit.worlds.emoji.test_captions import THINGS
from versatile_diffusion.worlds.base import KnownThing, Repertoire
from versatile_diffusion.worlds.emoji.data.captions import CaptionReader
from versatile_diffusion.worlds.emoji.data.hands import HANDS
from versatile_diffusion.worlds.emoji.data.treatments import TREATMENTS
from versatile_diffusion.worlds.emoji.repertoire import repertoire
from versatile_diffusion.worlds.postcards.data.captions import parse
from versatile_diffusion.worlds.registry import get_world

KNOWN = Repertoire(
    [KnownThing("an owl", ("owl", "bird", "animals"), "🦉"), KnownThing("a red kite", ("kite", "red", "toy"))],
    {"flat": ", flat style", "at night": ", at night"},
)


def test_things_are_found_by_the_beginnings_of_their_words() -> None:
    assert [thing.prompt for thing in KNOWN.search("ANI bir")] == ["an owl"]
    assert [thing.prompt for thing in KNOWN.search("red")] == ["a red kite"]
    assert KNOWN.search("red bird") == []
    assert KNOWN.search(" ") == KNOWN.things


def test_a_style_takes_the_place_of_another() -> None:
    assert KNOWN.styled("an owl ", "flat") == "an owl, flat style"
    assert KNOWN.styled("an owl, flat style", "at night") == KNOWN.styled("an owl", "at night") == "an owl, at night"


def test_postcards_reads_what_its_repertoire_asks_for() -> None:
    known = get_world("postcards").repertoire()
    assert known is not None
    for thing in known.things:
        for style in known.styles:
            read = parse(known.styled(thing.prompt, style))
            assert {read[name] for name in ("subject", "color", "place")} == set(thing.words)
            assert read["style"] == style


def test_emoji_reads_what_its_repertoire_asks_for(tmp_path: Path) -> None:
    (tmp_path / "things.json").write_text(json.dumps([asdict(thing) for thing in THINGS]))
    known, reader = repertoire(tmp_path), CaptionReader(THINGS)
    assert [reader.read(thing.prompt).thing for thing in known.things] == [thing.id for thing in THINGS]
    assert [thing.symbol for thing in known.search(THINGS[0].name)] == [chr(int(THINGS[0].id, 16))]
    said = [reader.read(known.styled("an owl", style)) for style in known.styles]
    assert {each.hand for each in said} == {None, *(hand.name for hand in HANDS)}
    assert {each.treatment for each in said} == {None, *TREATMENTS} - {"plain"}
