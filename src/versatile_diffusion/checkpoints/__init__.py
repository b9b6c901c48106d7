"""Reading and writing models: official .pth files, diffusers folders, Stable Diffusion v1, our own folders; LoRAs."""

from versatile_diffusion.checkpoints.components import Checkpoint, Components, Wanted
from versatile_diffusion.checkpoints.errors import CheckpointError, UnavailableError
from versatile_diffusion.checkpoints.folder import load, save, write
from versatile_diffusion.checkpoints.sources import convert, open_modality, open_source
from versatile_diffusion.checkpoints.weight_files import FileOptions

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Components",
    "FileOptions",
    "UnavailableError",
    "Wanted",
    "convert",
    "load",
    "open_modality",
    "open_source",
    "save",
    "write",
]
