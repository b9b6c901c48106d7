import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from versatile_diffusion.worlds.postcards.recipe import STAGES, Recipe, settings_of, tiny_recipe, with_settings


def test_settings_reach_stages_and_sizes() -> None:
    recipe = with_settings(Recipe(), ["pictures=50", "kl.learning_rate=1e-3", "min_snr=none", "clip.steps=7"])
    assert (recipe.pictures, recipe.kl.learning_rate, recipe.min_snr, recipe.clip.steps) == (50, 1e-3, None, 7)
    assert recipe.optimus == Recipe().optimus


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("pictures", "key=value"),
        ("picture=3", "no 'picture' here, only preset"),
        ("kl.step=3", "no 'step' here, only steps"),
        ("pictures.steps=3", "pictures has no parts"),
        ("pictures=many", "must be a whole number, got 'many'"),
        ("pictures=none", "must be a whole number"),
        ("pictures=1.5", "must be a whole number"),
        ("kl.learning_rate=fast", "must be a number"),
        ("preset=tiny", "write a recipe in Python"),
        ("kl=3", "write a recipe in Python"),
    ],
)
def test_wrong_settings_are_explained(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_settings(Recipe(), [setting])


@given(
    st.sampled_from(STAGES),
    st.integers(1, 10**6),
    st.floats(1e-6, 1),
    st.one_of(st.none(), st.floats(0.1, 10)),
)
@settings(deadline=None, max_examples=30)
def test_settings_can_be_told_back(stage: str, steps: int, rate: float, min_snr: float | None) -> None:
    told = "none" if min_snr is None else str(min_snr)
    recipe = with_settings(Recipe(), [f"{stage}.steps={steps}", f"{stage}.learning_rate={rate}", f"min_snr={told}"])
    assert with_settings(Recipe(), settings_of(recipe)) == recipe
    assert settings_of(Recipe()) == []


def test_stages_draw_from_seeds_of_their_own() -> None:
    for recipe in (Recipe(), tiny_recipe()):
        assert len({getattr(recipe, stage).seed for stage in STAGES}) == len(STAGES)
