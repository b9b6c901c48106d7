import json

import numpy as np
import pytest
import torch

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.worlds.postcards import ATTRIBUTES, Postcards, render
from versatile_diffusion.worlds.postcards.attribute_classifier import AttributeClassifier
from versatile_diffusion.worlds.postcards.evaluation.applications import (
    FOCUS_LEVELS,
    TEXT_SHARES,
    evaluate_applications,
    subject_mask,
)
from versatile_diffusion.worlds.postcards.evaluation.applications_report import (
    ApplicationsReport,
    Blend,
    ChangedAndKept,
    Masked,
)


@pytest.mark.slow
def test_the_applications_are_measured_the_same_way_twice(pipe: VersatileDiffusionPipeline) -> None:
    torch.manual_seed(0)
    classifier = AttributeClassifier(size=32).eval()
    first, again = (evaluate_applications(pipe, classifier, num=3, seed=5, steps=1, progress=False) for _ in range(2))
    assert first == again
    assert tuple(first.dual_guided) == TEXT_SHARES and tuple(first.focus) == FOCUS_LEVELS
    assert set(first.edit) == set(first.instructed) == {*list(ATTRIBUTES)[:3], "all"}
    assert first.blend.first + first.blend.second + first.blend.neither == pytest.approx(1)
    told = json.loads(json.dumps(first.as_dict()))
    assert told["settings"] == {"num": 3, "seed": 5, "steps": 1, "guidance_scale": None}
    assert first.drawing().startswith(b"\x89PNG")


def test_too_few_postcards_are_refused(pipe: VersatileDiffusionPipeline) -> None:
    with pytest.raises(ValueError, match="num must be 2 or more"):
        evaluate_applications(pipe, AttributeClassifier(size=32), num=1)


def test_the_best_share_is_where_the_worse_figure_is_best() -> None:
    dual = {0.2: ChangedAndKept(0.1, 0.9), 0.5: ChangedAndKept(0.7, 0.6), 0.8: ChangedAndKept(1.0, 0.5)}
    findings = ApplicationsReport(dual, {}, {}, Masked(1, 0), {}, Blend(0.5, 0.5, 0), {"num": 2})
    assert findings.best_text_share == 0.5


@pytest.mark.parametrize("index", range(6))
def test_a_subject_is_hidden_and_something_is_left(index: int) -> None:
    scene = Postcards(9, 6).scene(index)
    plain = [
        render(
            type(scene)(
                **{**scene.attributes, "style": "postcard", "weather": "clear", "color": color}, seed=scene.seed
            )
        )
        for color in ("red", "white")
    ]
    kept = subject_mask(scene, 64)
    assert 0.2 < kept.mean() < 0.98
    assert np.array_equal(plain[0][kept], plain[1][kept])
