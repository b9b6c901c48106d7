"""A run of all stages that tests start in processes of their own."""

from pathlib import Path

from versatile_diffusion.worlds.postcards.recipe import tiny_recipe
from versatile_diffusion.worlds.postcards.training import PostcardsTraining


def train_postcards(folder: str) -> None:
    """Trains all stages of the tiny recipe."""
    PostcardsTraining(tiny_recipe(), Path(folder)).finish("model")
