"""Which way a run of `vd train DATA` goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from versatile_diffusion.training.own_data.finetuning import FineTuning
from versatile_diffusion.training.own_data.flow_recipe import FlowRecipe
from versatile_diffusion.training.own_data.from_nothing import FromNothing
from versatile_diffusion.training.samples.user_samples import silent
from versatile_diffusion.training.settings.stage_settings import Recipe
from versatile_diffusion.training.settings.training_settings import TrainingSettings


def open_training(
    settings: TrainingSettings, folder: Path, say: Callable[[str], None] = silent
) -> FineTuning | FlowRecipe:
    """Returns the run that settings ask for, in a folder, where it goes on if it was begun.

    Args:
        settings: what is trained, on what and how.
        folder: of the run.
        say: tells people something, such as how samples are encoded.

    Raises:
        ValueError: if the folder holds a run with other settings; the message names them.
    """
    if settings.from_nothing:
        return FromNothing(settings, folder, say)
    return FlowRecipe(settings, folder, say) if settings.recipe is Recipe.PAPER else FineTuning(settings, folder, say)
