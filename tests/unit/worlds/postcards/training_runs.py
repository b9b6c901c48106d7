"""A run of all stages that tests start in processes of their own."""

from pathlib import Path

from versatile_diffusion.training.tasks import diffuser
from versatile_diffusion.worlds.postcards.recipe import tiny_recipe
from versatile_diffusion.worlds.postcards.training import PostcardsTraining


def train_postcards(folder: str) -> None:
    """Trains all stages of the tiny recipe, with short previews as in the other tests."""
    diffuser.PREVIEW_STEPS = 2
    PostcardsTraining(tiny_recipe(), Path(folder)).finish("model")
