import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from versatile_diffusion.modalities.focus import adjust_focus, match_color, reduce_rank

_TOKENS = torch.randn(2, 30, 24, generator=torch.Generator().manual_seed(0))


def test_the_middle_changes_nothing() -> None:
    assert torch.equal(adjust_focus(_TOKENS, 0.5), _TOKENS)


@given(level=st.floats(0, 1), few=st.integers(2, 30))
def test_the_deviation_is_kept_whatever_the_number_of_tokens(level: float, few: int) -> None:
    tokens = _TOKENS[:, :few]
    adjusted = adjust_focus(tokens, level)
    torch.testing.assert_close(adjusted.std((1, 2)), tokens.std((1, 2)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("level", [0.1, 0.8])
def test_a_picture_does_not_depend_on_its_batch(level: float) -> None:
    together = adjust_focus(_TOKENS, level)
    alone = torch.cat([adjust_focus(tokens[None], level) for tokens in _TOKENS])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("level", [-0.1, 1.1, float("nan")])
def test_levels_out_of_range(level: float) -> None:
    with pytest.raises(ValueError, match="between 0"):
        adjust_focus(_TOKENS, level)


def test_rank_is_reduced_around_the_means() -> None:
    reduced = reduce_rank(_TOKENS, 3)
    around = reduced - _TOKENS.mean(-1, keepdim=True)
    assert torch.linalg.matrix_rank(around, atol=1e-3).tolist() == [3, 3]


def test_colors_match_the_reference() -> None:
    draw = torch.Generator().manual_seed(1)
    picture = torch.rand(3, 20, 30, generator=draw)
    reference = 0.5 + 0.1 * (torch.rand(3, 8, 8, generator=draw) - 0.5)
    matched = match_color(picture, reference)
    torch.testing.assert_close(matched.mean((1, 2)), reference.mean((1, 2)))
    torch.testing.assert_close(matched.std((1, 2), correction=0), reference.std((1, 2), correction=0))


def test_a_flat_picture_takes_the_mean_colour() -> None:
    matched = match_color(torch.zeros(3, 1, 1), torch.full((3, 2, 2), 0.25))
    torch.testing.assert_close(matched, torch.full((3, 1, 1), 0.25))
