import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.worlds.emoji import packages as made_up
from versatile_diffusion.worlds.emoji.data import packages as npm
from versatile_diffusion.worlds.emoji.data.builder import METADATA, NOTICE, build
from versatile_diffusion.worlds.emoji.data.catalog import Catalog, read_catalog, treatments_of
from versatile_diffusion.worlds.emoji.data.hands import HANDS, STRANGER
from versatile_diffusion.worlds.emoji.data.samples import EmojiSamples
from versatile_diffusion.worlds.emoji.data.split import HELD_OUT_SHARE, EmojiSplit, holds_out_hand, holds_out_treatment
from versatile_diffusion.worlds.emoji.data.things import THINGS, slugs
from versatile_diffusion.worlds.emoji.data.treatments import COLORS, TREATMENTS


def quietly(_: str) -> None:
    """Says nothing."""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return made_up.install(tmp_path / "packages", monkeypatch)


@pytest.fixture
def catalog(packages: Path) -> Catalog:
    return read_catalog(packages)


def test_an_eighth_is_held_out_whatever_else_there_is() -> None:
    things = [f"{i:X}" for i in range(2000)]
    by_hand = [holds_out_hand(thing, family) for thing in things for family in ("noto", "fluent", "twemoji")]
    treated = [holds_out_treatment(thing, name) for thing in things for name in list(TREATMENTS)[1:]]
    for held in (by_hand, treated):
        assert sum(held) / len(held) == pytest.approx(HELD_OUT_SHARE, abs=0.01)
    assert not any(holds_out_treatment(thing, "plain") for thing in things)
    assert [holds_out_hand(thing, "noto", seed=1) for thing in things] != by_hand[::3]


def test_what_is_held_out_stays_so() -> None:
    """Models are trained on this split: with another one, the cells that they are measured on were seen."""
    animals = [f"{code:X}" for code in range(0x1F400, 0x1F440)]
    held = ["1F405", "1F408", "1F40E", "1F413", "1F419", "1F41D", "1F427", "1F437"]
    assert [thing for thing in animals if holds_out_hand(thing, "fluent")] == held
    treated = {thing: [name for name in TREATMENTS if holds_out_treatment(thing, name)] for thing in animals[:5]}
    assert treated == {
        "1F400": ["watercolor"],
        "1F401": ["sticker", "neon"],
        "1F402": ["pixel art", "line drawing", "duotone"],
        "1F403": ["background", "sticker", "neon"],
        "1F404": [],
    }


def test_nothing_that_is_held_out_is_learnt_from(catalog: Catalog) -> None:
    for split in (EmojiSplit.TRAIN, EmojiSplit.VALIDATION):
        samples = EmojiSamples(catalog, split, seed=3)
        assert not any(samples[i].cell.is_held_out for i in range(80))
    for split in (EmojiSplit.HELD_OUT, EmojiSplit.JUDGE):
        samples = EmojiSamples(catalog, split, seed=3)
        cells = [samples[i].cell for i in range(80)]
        assert all(cell.is_held_out for cell in cells)
        assert {cell.holds_out_hand for cell in cells} == {cell.holds_out_treatment for cell in cells} == {True, False}


def test_hands_that_share_designs_are_held_out_together() -> None:
    families: dict[str, set[str]] = {}
    for hand in HANDS:
        families.setdefault(hand.family, set()).add(hand.name)
    assert {"fluent-flat", "fluent-3d"} in families.values()


def test_the_stranger_is_in_no_other_part(catalog: Catalog) -> None:
    strange = EmojiSamples(catalog, EmojiSplit.STRANGER, seed=3)
    assert {strange[i].cell.hand.name for i in range(50)} == {STRANGER.name}
    assert STRANGER.name not in {hand.name for hand in HANDS}
    for split in set(EmojiSplit) - {EmojiSplit.STRANGER}:
        samples = EmojiSamples(catalog, split, seed=3)
        assert STRANGER.name not in {samples[i].cell.hand.name for i in range(40)}


def test_things_are_told_apart_by_eye(catalog: Catalog) -> None:
    """Neither what is joined of several, nor clock faces, letters and flags; and a mirrored alias is no drawing."""
    names = [thing.name for thing in catalog.things]
    assert names == ["red apple", "fox", "owl", "key", "red heart", "blue heart"]
    heart = catalog.things[4]
    assert heart.needs_color and not {"black and white", "silhouette"} & {each.name for each in treatments_of(heart)}
    assert len(treatments_of(catalog.things[0])) == len(TREATMENTS)
    assert len(catalog.pairs) == len(names) * len(HANDS)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("grinning face", "grinning-face"),
        ("piñata", "pinata"),
        ("woman’s hat", "womans-hat"),
        ("kiss: woman, man", "kiss-woman-man"),
        ("T-Rex", "t-rex"),
        ("A.B. type", "ab-type"),
    ],
)
def test_slugs(label: str, expected: str) -> None:
    assert expected in slugs(label)


def test_equal_seeds_give_equal_samples(catalog: Catalog) -> None:
    one, again, other = (EmojiSamples(catalog, EmojiSplit.TRAIN, seed) for seed in (3, 3, 4))
    assert [one[i] for i in range(30)] == [again[i] for i in range(30)]
    assert [one[i].texts for i in range(30)] != [other[i].texts for i in range(30)]


@pytest.mark.parametrize("name", list(TREATMENTS))
def test_treatments_are_functions_of_a_drawing(name: str) -> None:
    drawing = np.zeros((128, 128, 4), dtype=np.uint8)
    drawing[40:90, 30:100] = (200, 60, 40, 255)
    drawing[55:70, 50:70, 2] = 220
    treatment = TREATMENTS[name]
    one, again = (treatment.draw(drawing, "green", np.random.default_rng(5)) for _ in range(2))
    assert one.shape == (128, 128, 3) and one.dtype == np.uint8
    assert np.array_equal(one, again)
    assert not np.array_equal(one[40:90, 30:100], np.broadcast_to(one[2, 2], (50, 70, 3)))
    if treatment.colored:
        assert tuple(one[2, 2]) == COLORS["green"]
    if not treatment.keeps_inside:
        assert len(np.unique(one[42:88, 32:98].reshape(-1, 3), axis=0)) == 1
    assert name == "plain" or not np.array_equal(
        one, TREATMENTS["plain"].draw(drawing, "green", np.random.default_rng(5))
    )


def test_the_builder_writes_a_captioned_folder(packages: Path, tmp_path: Path) -> None:
    output = build(tmp_path / "data", packages, images=24, seed=5, say=quietly, fetches=False)
    lines = [json.loads(line) for line in (output / "train" / METADATA).read_text().splitlines()]
    assert len(lines) == 24 and {len(line["texts"]) for line in lines} == {4}
    assert not any(line["holds_out_hand"] or line["holds_out_treatment"] for line in lines)
    with Image.open(output / "train" / lines[7]["file_name"]) as image:
        assert image.size == (128, 128) and image.mode == "RGB"
    held = [json.loads(line) for line in (output / "held_out" / METADATA).read_text().splitlines()]
    assert held and all(line["holds_out_hand"] or line["holds_out_treatment"] for line in held)
    assert [thing["name"] for thing in json.loads((output / THINGS).read_text())][:2] == ["red apple", "fox"]
    notice = (output / NOTICE).read_text()
    assert all(hand.title in notice and hand.license in notice for hand in (*HANDS, STRANGER))


def test_a_build_goes_on_where_it_stopped_and_keeps_its_seed(packages: Path, tmp_path: Path) -> None:
    output = build(tmp_path / "data", packages, images=8, seed=5, say=quietly, fetches=False)
    first = (output / "train" / "000" / "000003.png").read_bytes()
    build(output, packages, images=12, seed=5, say=quietly, fetches=False)
    assert (output / "train" / "000" / "000003.png").read_bytes() == first
    assert len((output / "train" / METADATA).read_text().splitlines()) == 12
    with pytest.raises(ValueError, match="choose another --output"):
        build(output, packages, images=12, seed=6, say=quietly, fetches=False)


def test_packages_are_checked(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = next(packages.glob("*twemoji*"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is damaged or another file"):
        read_catalog(packages)
    damaged.unlink()
    with pytest.raises(FileNotFoundError, match="npm pack @iconify-json/twemoji@"):
        read_catalog(packages)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(FileNotFoundError, match="npm, which fetches the emoji, is not installed"):
        npm.fetch([npm.Package("one", "1.0.0", "")], tmp_path / "none", quietly)
