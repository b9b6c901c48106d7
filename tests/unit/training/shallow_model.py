"""A model of one level, for what takes the longer the more layers there are, such as counting the memory of a step."""

from pathlib import Path

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.diffuser import Diffuser, DiffuserConfig

SHALLOW = DiffuserConfig(32, (1,), (1,), (True,), num_heads=4)


def save_shallow(pipe: VersatileDiffusionPipeline, folder: Path) -> str:
    """Saves a pipeline with such a diffuser in the place of its own, and returns the folder."""
    modalities = dict(pipe.modalities.items())
    layers = {name: modality.data_layers for name, modality in modalities.items()}
    dims = {name: modality.context_dim for name, modality in modalities.items()}
    VersatileDiffusionPipeline(Diffuser(SHALLOW, layers, dims), pipe.scheduler, modalities).save_pretrained(folder)
    return str(folder)
