import numpy as np
import pytest

from versatile_diffusion.modalities.vocabulary import vocabulary_of
from versatile_diffusion.worlds.emoji.data.captions import PARTS, CaptionReader, Said, Shown, caption, phrases, texts_of
from versatile_diffusion.worlds.emoji.data.hands import HANDS
from versatile_diffusion.worlds.emoji.data.things import Thing
from versatile_diffusion.worlds.emoji.data.treatments import COLORS, TREATMENTS

THINGS = (
    Thing("1F34E", "red apple", ("fruit", "food"), "food", "food-fruit", ("red-apple",)),
    Thing("1F34F", "green apple", ("fruit",), "food", "food-fruit", ("green-apple",)),
    Thing("1F366", "soft ice cream", ("dessert",), "food", "food-sweet", ("soft-ice-cream",)),
    Thing("1F303", "night with stars", (), "travel", "place-other", ("night-with-stars",)),
    Thing("1F97F", "flat shoe", ("ballet",), "objects", "clothing", ("flat-shoe",)),
    Thing("1F453", "glasses", ("eye",), "objects", "clothing", ("glasses",)),
)


def shown(number: int) -> Shown:
    rng = np.random.default_rng(number)
    names, colors = list(TREATMENTS), list(COLORS)
    return Shown(
        THINGS[rng.integers(len(THINGS))],
        HANDS[rng.integers(len(HANDS))],
        TREATMENTS[names[rng.integers(len(names))]],
        colors[rng.integers(len(colors))],
    )


@pytest.mark.parametrize("number", range(40))
def test_plain_captions_are_read_back(number: int) -> None:
    one = shown(number)
    text = caption(one, np.random.default_rng(number), plainly=True)
    colored = one.treatment.colored
    treatment = None if one.treatment.name == "plain" else one.treatment.name
    expected = Said(one.thing.id, one.hand.name, treatment, one.color if colored else None)
    assert CaptionReader(THINGS).read(text) == expected, text


@pytest.mark.parametrize("part", PARTS)
def test_captions_name_no_part_that_is_left_out(part: str) -> None:
    reader = CaptionReader(THINGS)
    for number in range(30):
        mention = [each for each in PARTS if each != part]
        said = reader.read(caption(shown(number), np.random.default_rng(number), mention))
        assert getattr(said, part) is None


def test_every_word_is_in_the_vocabulary() -> None:
    words = set(vocabulary_of(phrases(THINGS)))
    said = [text for number in range(60) for text in texts_of(shown(number), np.random.default_rng(number))]
    assert set(vocabulary_of(said)) <= words


def test_people_are_understood() -> None:
    read = CaptionReader(THINGS).read
    assert read("A red apple, 3D style") == Said("1F34E", "fluent-3d")
    assert read("watercolour of a green apple on a blue background").treatment == "watercolor"
    assert read("glasses on a blue background") == Said("1F453", None, "background", "blue")
    assert read("make it pixel art") == Said(treatment="pixel art")
