from dataclasses import replace
from itertools import combinations, islice, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from versatile_diffusion.evaluation.contact_sheet import contact_sheet
from versatile_diffusion.worlds.postcards import (
    ATTRIBUTES,
    VOCABULARY,
    Postcards,
    Scene,
    Split,
    caption,
    is_held_out,
    parse,
    render,
    sample_scene,
)
from versatile_diffusion.worlds.postcards.data.captions import tokenize

SEEDS = st.integers(0, 2**31 - 1)
SCENES = st.builds(Scene, **{name: st.sampled_from(values) for name, values in ATTRIBUTES.items()}, seed=SEEDS)
MENTIONS = st.sets(st.sampled_from(list(ATTRIBUTES)))


def some_scene(seed: int = 3) -> Scene:
    return sample_scene(np.random.default_rng(seed), Split.ALL)


def test_scene_knows_its_attributes_and_rejects_unknown_values() -> None:
    scene = Scene("desert", "night", "snow", "tent", "white", "right", "pixel art", seed=1)
    assert list(scene.attributes) == list(ATTRIBUTES)
    assert scene.indices == (1, 2, 3, 2, 5, 2, 3)
    with pytest.raises(ValueError, match="color"):
        replace(scene, color="orange")


def test_a_tenth_of_the_combinations_is_held_out_whatever_the_seed() -> None:
    scenes = [Scene(*values, seed=0) for values in product(*ATTRIBUTES.values())]
    held_out = [scene for scene in scenes if is_held_out(scene)]
    assert 0.09 < len(held_out) / len(scenes) < 0.11
    assert all(is_held_out(replace(scene, seed=5)) for scene in held_out[:50])
    for position, name in enumerate(ATTRIBUTES):
        assert {scene.indices[position] for scene in held_out} == set(range(len(ATTRIBUTES[name])))


def test_the_held_out_set_never_changes() -> None:
    scene = Scene("meadow", "day", "clear", "house", "red", "left", "postcard", seed=0)
    marks = [is_held_out(replace(scene, color=c, style=s)) for c in ATTRIBUTES["color"] for s in ATTRIBUTES["style"]]
    assert [i for i, mark in enumerate(marks) if mark] == [23, 29]


@pytest.mark.parametrize("split", Split)
def test_sampling_keeps_to_the_split(split: Split) -> None:
    rng = np.random.default_rng(0)
    marks = {is_held_out(sample_scene(rng, split)) for _ in range(200)}
    assert marks == {Split.TRAIN: {False}, Split.HELD_OUT: {True}, Split.ALL: {False, True}}[split]


def test_sampling_is_about_uniform() -> None:
    rng = np.random.default_rng(1)
    drawn = np.array([sample_scene(rng).indices for _ in range(3000)])
    for column, values in zip(drawn.T, ATTRIBUTES.values(), strict=True):
        shares = np.bincount(column, minlength=len(values)) / len(drawn)
        assert np.abs(shares * len(values) - 1).max() < 0.25


@settings(deadline=None, max_examples=40)
@given(SCENES)
def test_rendering_is_determined_by_the_scene(scene: Scene) -> None:
    image = render(scene)
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8
    assert image.std() > 10
    assert np.array_equal(image, render(replace(scene)))


def test_the_seed_changes_the_picture() -> None:
    scene = some_scene()
    assert not np.array_equal(render(scene), render(replace(scene, seed=scene.seed + 1)))


@pytest.mark.parametrize("style", ATTRIBUTES["style"])
@pytest.mark.parametrize("name", ATTRIBUTES)
def test_each_two_values_of_an_attribute_look_different(name: str, style: str) -> None:
    for seed in range(3):
        scene = replace(some_scene(seed), style=style)
        images = [render(replace(scene, **{name: value})).astype(float) for value in ATTRIBUTES[name]]
        for a, b in combinations(images, 2):
            assert np.abs(a - b).max(-1).mean() > 1.5


@pytest.mark.parametrize("style", ATTRIBUTES["style"])
@pytest.mark.parametrize("size", [16, 48, 128, 256])
def test_other_sizes_show_the_same_picture(style: str, size: int) -> None:
    scene = replace(some_scene(), style=style)
    image = render(scene, size)
    assert image.shape == (size, size, 3)
    thumbnails = [np.asarray(contact_sheet([i], 1, padding=0).resize((8, 8)), float) for i in (image, render(scene))]
    assert np.abs(thumbnails[0] - thumbnails[1]).mean() < 20


def test_odd_sizes_are_refused() -> None:
    for size in (0, 8, 50, 272):
        with pytest.raises(ValueError, match="multiple of 16"):
            render(some_scene(), size)


@settings(deadline=None, max_examples=500)
@given(SCENES, MENTIONS, SEEDS)
def test_parsing_undoes_a_caption(scene: Scene, mention: set[str], seed: int) -> None:
    text = caption(scene, np.random.default_rng(seed), mention)
    assert parse(text) == {name: scene.attributes[name] for name in ATTRIBUTES if name in mention}


@settings(deadline=None, max_examples=300)
@given(SCENES, SEEDS)
def test_captions_are_short_lower_case_and_in_the_vocabulary(scene: Scene, seed: int) -> None:
    text = caption(scene, np.random.default_rng(seed))
    words = tokenize(text)
    assert set(words) <= set(VOCABULARY)
    assert "".join(words) == text.replace(" ", "")
    assert text == text.lower() and sum(word.isalpha() for word in words) <= 28
    assert "subject" in parse(text)


def test_the_vocabulary_is_small_and_every_word_occurs() -> None:
    rng = np.random.default_rng(0)
    people, no_style, place_alone = None, set(ATTRIBUTES) - {"style"}, {"place"}  # some words need one of these
    scenes = [sample_scene(rng, Split.ALL) for _ in range(500)]
    captions = (caption(scene, rng, mention) for scene in scenes for mention in (people, no_style, place_alone))
    said = {word for text in captions for word in tokenize(text)}
    assert said == set(VOCABULARY)
    assert len(VOCABULARY) <= 200 and list(VOCABULARY) == sorted(VOCABULARY)


def test_people_leave_things_out_sometimes() -> None:
    rng = np.random.default_rng(0)
    named = np.array([len(parse(caption(sample_scene(rng), rng))) for _ in range(1500)])
    assert 0.41 < (named == len(ATTRIBUTES)).mean() < 0.49
    assert 0.83 < ((named - 1) / (len(ATTRIBUTES) - 1)).mean() < 0.87


def test_unknown_mentions_are_refused() -> None:
    with pytest.raises(ValueError, match="mood"):
        caption(some_scene(), np.random.default_rng(0), {"mood"})


@given(st.text())
def test_any_text_can_be_parsed(text: str) -> None:
    assert all(value in ATTRIBUTES[name] for name, value in parse(text).items())


def test_parsing_takes_free_text() -> None:
    assert parse("") == parse("a portrait of a lady") == {}
    assert parse("Snowy NIGHT!! the tent (blue), left") == {
        "time": "night",
        "weather": "snow",
        "subject": "tent",
        "color": "blue",
        "position": "left",
    }
    assert parse("in the centre, a coloured pencil drawing") == {"position": "middle", "style": "pencil sketch"}
    assert parse("a watercolour") == parse("a watercolor") == {"style": "watercolor"}
    assert parse("a red and blue tent") == {"subject": "tent", "color": "red"}


def test_items_depend_on_seed_split_and_index_only() -> None:
    ahead, back = Postcards(4), Postcards(4, length=6)
    items = list(islice(ahead, 6))
    for i in reversed(range(6)):
        assert np.array_equal(back[i].image, items[i].image)
        assert (back[i].caption, back[i].scene) == (items[i].caption, items[i].scene)
    assert back[-1].scene == items[5].scene
    others = (Postcards(5), Postcards(4, split=Split.HELD_OUT))
    assert len({items[0].scene, *(other[0].scene for other in others)}) == 3
    assert is_held_out(others[1][0].scene)


def test_a_length_ends_the_postcards_and_none_does_not() -> None:
    assert len(Postcards(0, length=3)) == len(list(Postcards(0, length=3))) == 3
    with pytest.raises(IndexError):
        Postcards(0, length=3)[3]
    with pytest.raises(IndexError):
        Postcards(0)[-1]
    with pytest.raises(TypeError):
        len(Postcards(0))
    assert Postcards(0)[10**12].image.shape == (64, 64, 3)


def test_contact_sheet_places_pictures_in_rows() -> None:
    images = [np.full((4, 6, 3), 10 * i, np.uint8) for i in range(5)]
    sheet = np.asarray(contact_sheet(images, 2, padding=1, scale=2))
    assert sheet.shape == (3 * 9 + 1, 2 * 13 + 1, 3)
    assert sheet[1, 1, 0] == 0 and sheet[1, 14, 0] == 10 and sheet[19, 1, 0] == 40
    assert (sheet[19:, 14:] == 255).all()
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], 2)
