"""Which samples are wanted, by what data sets say of them and by their sizes."""

import json
from pathlib import Path

import pytest
import torch

from tests.unit.data.test_formats import MODALITIES
from tests.unit.training import drawn_data
from versatile_diffusion.data.captioned_data import CaptionedData, SkippedSamples
from versatile_diffusion.data.filters import PAPER, SampleFilters
from versatile_diffusion.data.overview import look_at
from versatile_diffusion.data.problems import BadSample, UnwantedSample
from versatile_diffusion.training.settings.training_settings import TrainingSettings

LARGE = {"image": [torch.zeros(3, 300, 300)]}


@pytest.mark.parametrize(
    ("facts", "by"),
    [
        ({}, None),
        ({"similarity": 0.31, "punsafe": 0.1, "pwatermark": 0.2}, None),
        ({"similarity": 0.3}, "min_similarity"),
        ({"SIMILARITY": "0.1"}, "min_similarity"),
        ({"clip_score": 0.2}, "min_similarity"),
        ({"punsafe": 0.3}, "max_nsfw"),
        ({"NSFW": "NSFW"}, "max_nsfw"),
        ({"NSFW": "UNSURE"}, "max_nsfw"),
        ({"NSFW": "UNLIKELY"}, None),
        ({"pwatermark": 0.9}, "max_watermark"),
        ({"pwatermark": None, "similarity": "unknown"}, None),
    ],
)
def test_what_a_data_set_says_decides(facts: dict[str, object], by: str | None) -> None:
    if by is None:
        PAPER.require_facts(facts)
    else:
        with pytest.raises(UnwantedSample) as problem:
            PAPER.require_facts(facts)
        assert problem.value.filter == by


@pytest.mark.parametrize(
    ("height", "width", "by"),
    [
        (300, 300, None),
        (221, 222, "min_area"),  # 0.75 · 256² is 49,152
        (500, 299, "min_aspect"),
        (500, 300, None),
        (300, 501, None),
        (300, 502, "max_aspect"),
    ],
)
def test_sizes_decide(height: int, width: int, by: str | None) -> None:
    items = {"image": [torch.zeros(3, height, width)], "text": ["a red tent"]}
    if by is None:
        PAPER.require_sizes(items)
    else:
        with pytest.raises(UnwantedSample, match=f"{width}×{height}") as problem:
            PAPER.require_sizes(items)
        assert problem.value.filter == by


def test_settings_change_single_filters_of_a_preset() -> None:
    assert TrainingSettings(data="x").filters == SampleFilters()
    chosen = TrainingSettings(data="x", filter="paper", min_similarity=0.2).filters  # pyright: ignore
    assert chosen.min_similarity == 0.2 and chosen.max_nsfw == PAPER.max_nsfw == 0.3


def test_an_overview_counts_what_filters_would_take(tmp_path: Path) -> None:
    source = drawn_data.many_tars(tmp_path, 16, size=(40, 20))
    filters = SampleFilters(min_similarity=0.33, max_aspect=2.0, max_nsfw=0.07)
    found = look_at(CaptionedData(source), MODALITIES, filters=filters)
    assert found.filtered == {"min_similarity": 6, "max_nsfw": 2} and found.samples == 16
    assert (
        look_at(CaptionedData(source), MODALITIES, filters=SampleFilters(max_aspect=1.9)).filtered["max_aspect"] == 16
    )


def test_what_was_skipped_is_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "skipped.jsonl"
    first = SkippedSamples(file, most=3)
    first.add("a\udcff", BadSample("It is damaged."))
    first.add("b", UnwantedSample("It is small.", "min_area"))
    first.add("b", UnwantedSample("It is small.", "min_area"))
    again = SkippedSamples(file, most=3)
    for key in ("a\udcff", "b", "c", "d", "e"):
        again.add(key, UnwantedSample("It is small.", "min_area"))
    assert [json.loads(line)["key"] for line in file.read_text().splitlines()] == ["a\udcff", "b", "c"]
    assert again.told() == "5 samples were left out: 1 that cannot be used, 4 by min_area"
    again.begin()
    assert not file.read_text() and again.told() == "no samples were left out"


def test_filters_do_not_end_a_strict_run() -> None:
    strict = SkippedSamples(strict=True)
    strict.add("a", UnwantedSample("It is small.", "min_area"))
    with pytest.raises(ValueError, match=r"b: It is damaged\. Mend or remove it"):
        strict.add("b", BadSample("It is damaged."))
