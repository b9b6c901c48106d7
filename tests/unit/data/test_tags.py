"""Captions that are tags, varied."""

from hypothesis import given
from hypothesis import strategies as st

from versatile_diffusion.data.tags import VARIANTS, CaptionTags

TAGS = st.lists(st.text("abc ", min_size=1).filter(str.strip).map(str.strip), min_size=1, max_size=6)


@given(TAGS, st.booleans(), st.floats(0, 0.99), st.integers(0, 4))
def test_variants_are_of_the_tags_and_keep_the_first_ones(
    tags: list[str], shuffled: bool, dropout: float, kept: int
) -> None:
    caption = ", ".join(tags)
    varied = CaptionTags(shuffled, dropout, kept)
    ways = varied.variants(caption, "seed")
    assert len(ways) == VARIANTS and ways == varied.variants(caption, "seed")
    for way in ways:
        left = way.split(", ")
        assert left and left[:kept] == tags[:kept]
        assert all(left.count(tag) <= tags.count(tag) for tag in left)
        assert dropout > 0 or sorted(left) == sorted(tags)
        assert shuffled or left == [tag for tag in tags if tag in left] or len(set(tags)) < len(tags)


def test_the_share_that_is_left_out_is_the_one_that_was_asked_for() -> None:
    caption = ", ".join(map(str, range(200)))
    left = [len(way.split(",")) for way in CaptionTags(dropout=0.25).variants(caption, "a")]
    assert 120 < sum(left) / len(left) < 180


def test_a_sentence_stays_as_it_is() -> None:
    assert set(CaptionTags(shuffled=True, dropout=0.9).variants("a red tent ", "a")) == {"a red tent "}
