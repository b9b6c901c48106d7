"""A run of all stages that tests start in processes of their own."""

import sys
from pathlib import Path

import torch

from versatile_diffusion.worlds.postcards.recipe import tiny_recipe
from versatile_diffusion.worlds.postcards.training import PostcardsTraining

if __name__ == "__main__":
    torch.set_num_threads(1)
    PostcardsTraining(tiny_recipe(), Path(sys.argv[1])).finish("model")
