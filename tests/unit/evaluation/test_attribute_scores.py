import pytest
import torch

from versatile_diffusion.evaluation.attribute_scores import diversity, score, score_captions, score_rewrites

NAMES = ("color", "time", "place")


def test_only_expected_attributes_count() -> None:
    expected = [{"color": "red", "time": "night"}, {"color": "blue"}]
    found = [{"color": "red", "time": "day", "place": "sea"}, {}]
    result = score(expected, found, NAMES)
    assert result.accuracy == pytest.approx(1 / 3)
    assert (result.per_attribute["color"], result.per_attribute["time"]) == (0.5, 0)
    assert result.per_attribute["place"] is None and list(result.per_attribute) == list(NAMES)
    with pytest.raises(ValueError):
        score(expected, found[:1], NAMES)


def test_a_score_of_nothing_is_none() -> None:
    assert score([{}], [{"color": "red"}], NAMES).accuracy is None


def test_copies_have_no_diversity_and_redrawn_images_have_one() -> None:
    images, redrawn = torch.rand(3, 3, 8, 8), torch.rand(3, 3, 8, 8)
    assert diversity(images, images, redrawn) == 0
    assert diversity(images, redrawn, redrawn) == 1
    assert diversity(images, (images + redrawn) / 2, redrawn) == pytest.approx(0.5)


def test_captions_may_name_little_and_be_wrong() -> None:
    result = score_captions(
        [{"color": "red", "time": "day"}], [{"color": "red", "time": "night", "place": "sea"}], NAMES
    )
    assert (result.accuracy, result.coverage, result.strict_accuracy) == (
        0.5,
        pytest.approx(2 / 3),
        pytest.approx(1 / 3),
    )


def test_rewrites_lose_contradict_and_invent() -> None:
    before, after = {"color": "red", "time": "night"}, {"color": "blue", "place": "sea"}
    result = score_rewrites([before, before], [after, before], [False, True], NAMES)
    assert (result.accuracy, result.contradicted, result.invented, result.unchanged) == (0.5, 0.25, 0.25, 0.5)
