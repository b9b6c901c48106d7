from versatile_diffusion.training.settings.config import parse_settings, renamed, with_settings
from versatile_diffusion.worlds.postcards.recipe import PostcardsRecipe, tiny_recipe
from versatile_diffusion.worlds.postcards.world import FORMER_NAMES, POSTCARDS_STAGES


def test_stages_draw_from_seeds_of_their_own() -> None:
    for recipe in (PostcardsRecipe(), tiny_recipe()):
        assert len({getattr(recipe, stage).seed for stage in POSTCARDS_STAGES}) == len(POSTCARDS_STAGES)


def test_settings_of_earlier_versions_still_mean_the_same() -> None:
    given, notes = renamed(parse_settings(["oracle.steps=7", "critic.steps=8", "pictures=9"]), FORMER_NAMES)
    recipe = with_settings(PostcardsRecipe(), given)
    assert (recipe.attribute_classifier.steps, recipe.perceptual_network.steps, recipe.images) == (7, 8, 9)
    assert recipe.attribute_classifier.seed == PostcardsRecipe().attribute_classifier.seed and len(notes) == 3


def test_sizes_can_be_set() -> None:
    recipe = with_settings(PostcardsRecipe(), parse_settings(["preset.diffuser.num_heads=2"]))
    assert recipe.preset.diffuser.num_heads == 2
    wider = with_settings(PostcardsRecipe(), parse_settings(["preset.modalities.text.latent_dim=32"])).preset
    assert wider.text.latent_dim == 32 and wider.text.autoencoder == recipe.preset.text.autoencoder
    assert recipe.preset.diffuser.model_channels == PostcardsRecipe().preset.diffuser.model_channels
