"""Sizes of models by their names: the functions of `model_presets`, and those that the models of worlds have."""

from __future__ import annotations

from inspect import getmembers, isfunction, signature

from versatile_diffusion import model_presets
from versatile_diffusion.bundled import load_world, world_names
from versatile_diffusion.model_presets import Preset
from versatile_diffusion.training.settings.stage_settings import PRESET
from versatile_diffusion.training.stages.model_recipe import ModelRecipe


def preset_names() -> tuple[str, ...]:
    """Returns the names of all presets, first those of this package."""
    own = [
        name.replace("_", "-")
        for name, function in getmembers(model_presets, isfunction)
        if signature(function).return_annotation == Preset.__name__ and not signature(function).parameters
    ]
    return (*own, *world_names())


def named_preset(name: str) -> Preset:
    """Returns the sizes of a name, which may begin with `PRESET`.

    Raises:
        ValueError: if there are none of that name; the message names those that there are.
    """
    name = name.removeprefix(PRESET)
    if name not in preset_names():
        raise ValueError(f"There is no preset {name!r:.80}, only {', '.join(preset_names())}.")
    if name in world_names():
        recipe: object = getattr(load_world(name), "recipe")()  # noqa: B009 - what is found by name has no type
        if not isinstance(recipe, ModelRecipe):
            raise ValueError(f"The world {name} has no recipe with sizes: take another preset.")
        return recipe.preset
    preset: object = getattr(model_presets, name.replace("-", "_"))()
    assert isinstance(preset, Preset)  # see `preset_names`
    return preset
