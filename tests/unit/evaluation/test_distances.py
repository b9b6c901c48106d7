"""Distances between sets of images, beside the formulas of those who defined them, in float64."""

from collections import Counter
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torch import Tensor
from torch.nn.functional import normalize

from versatile_diffusion.evaluation.clip import clip_score
from versatile_diffusion.evaluation.cmmd import cmmd
from versatile_diffusion.evaluation.estimates import Estimate, bootstrap
from versatile_diffusion.evaluation.fid import frechet_of_features
from versatile_diffusion.evaluation.image_measures import ImageSet, centre_square


def two_sets(count: int = 300, other: int = 260, width: int = 24) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    mixed = torch.randn(count, width, generator=draw) @ torch.randn(width, width, generator=draw)
    return mixed, torch.randn(other, width, generator=draw) + 0.3


def fidelity(real: np.ndarray, made: np.ndarray) -> float:
    """The FID as torch-fidelity computes it, which cannot be installed where torchvision cannot."""
    means, spreads = zip(*((each.mean(0), np.cov(each, rowvar=False)) for each in (real, made)), strict=True)
    root = np.sqrt(np.linalg.eigvals(spreads[0] @ spreads[1]).astype("complex128")).real.sum()
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(spreads[0]) + np.trace(spreads[1]) - 2 * root)


def test_torchmetrics_and_torch_fidelity_agree_on_the_same_features() -> None:
    real, made = two_sets()
    ours = frechet_of_features(real, made)
    assert ours == pytest.approx(fidelity(real.double().numpy(), made.double().numpy()), rel=1e-9)
    assert ours == pytest.approx(TORCH_FIDELITY, rel=1e-6)
    root = sqrtm(np.cov(real.double().T) @ np.cov(made.double().T))
    traces = np.trace(np.cov(real.double().T)) + np.trace(np.cov(made.double().T)) - 2 * np.trace(root).real
    assert ours == pytest.approx(((real - made.mean(0)).mean(0) ** 2).sum().item() + traces, rel=1e-4)


def test_equal_sets_have_no_distance_however_few_they_are() -> None:
    real, _ = two_sets(5)
    assert frechet_of_features(real, real) == pytest.approx(0, abs=1e-6)
    assert cmmd(real, real).item() == pytest.approx(0, abs=1e-9)


def plain_cmmd(real: np.ndarray, made: np.ndarray) -> float:
    """arXiv 2401.09603: 1000 times the squared maximum mean discrepancy, a Gaussian kernel of sigma 10."""

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        total = 0.0
        for x in a:
            for y in b:
                total += np.exp(-((x - y) ** 2).sum() / (2 * 10.0**2))
        return total / (len(a) * len(b))

    return 1000 * (mean(real, real) + mean(made, made) - 2 * mean(real, made))


def test_cmmd_is_its_formula() -> None:
    real, made = (normalize(each, dim=-1) for each in two_sets(40, 30))
    expected = plain_cmmd(real.double().numpy(), made.double().numpy())
    assert cmmd(real, made).item() == pytest.approx(expected, rel=1e-6)
    assert cmmd(real.repeat(20, 1), made.repeat(20, 1)).item() == pytest.approx(expected, rel=1e-6)  # in several blocks


def test_cmmd_of_draws_is_that_of_the_drawn_sets() -> None:
    real, made = (normalize(each, dim=-1) for each in two_sets(12, 12))
    draws = bootstrap(12, 3, 0)
    together = cmmd(real, made, torch.as_tensor(draws).float(), torch.as_tensor(draws).float())
    for distance, counts in zip(together, draws, strict=True):
        times = torch.as_tensor(counts)
        alone = cmmd(real.repeat_interleave(times, 0), made.repeat_interleave(times, 0))
        assert distance.item() == pytest.approx(alone.item(), rel=1e-9)


def test_a_clip_score_is_a_hundred_cosines_and_never_negative() -> None:
    a, b = (normalize(each, dim=-1) for each in two_sets(50, 50))
    cosines = torch.nn.functional.cosine_similarity(a, b)
    assert clip_score(a, b).tolist() == pytest.approx((100 * cosines).clamp(min=0).tolist(), abs=1e-4)
    assert (cosines < 0).any() and clip_score(a, -a).tolist() == [0] * 50


@settings(max_examples=20)
@given(st.integers(2, 30), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_every_draw_has_as_many_samples(count: int, times: int, seed: int) -> None:
    draws = bootstrap(count, times, seed)
    assert draws.shape == (times, count) and (draws.sum(1) == count).all()
    assert (draws == bootstrap(count, times, seed)).all()


def test_the_interval_of_a_mean_is_the_one_of_statistics() -> None:
    scores = np.random.default_rng(0).normal(5, 2, 400)
    estimate = Estimate.of_mean(scores, bootstrap(400, 2000, 0))
    assert estimate.value == pytest.approx(scores.mean())
    assert estimate.error == pytest.approx(scores.std() / sqrt(400), rel=0.05)
    low, high = estimate.interval or (0, 0)
    assert high - low == pytest.approx(2 * 1.96 * (estimate.error or 0), rel=1e-3)
    assert Estimate.of_mean(scores, bootstrap(400, 0, 0)).as_dict() == {
        "value": pytest.approx(scores.mean()),
        "low": None,
        "high": None,
    }


def test_squares_are_cut_from_the_middle() -> None:
    image = torch.zeros(3, 20, 40)
    image[:, :, 10:30] = 1
    assert centre_square(image, 20).eq(1).all() and centre_square(image, 8).shape == (3, 8, 8)
    assert ImageSet(torch.zeros(3, 2), None, Counter({(40, 20): 2, (8, 8): 1})).told_sizes == "40×20 and 1 other sizes"


TORCH_FIDELITY = 424.6416572866416
"""What torch-fidelity 0.4.0 says of `two_sets`."""
