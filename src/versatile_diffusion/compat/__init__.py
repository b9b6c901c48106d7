"""The four pipelines that diffusers deprecated, under their names and with their arguments.

    from diffusers import VersatileDiffusionPipeline               # before
    from versatile_diffusion.compat import VersatileDiffusionPipeline     # after

Equal generators give equal pictures. New code is better off with `versatile_diffusion.VersatileDiffusionPipeline`,
which makes texts, too.
"""

from versatile_diffusion.compat.pipelines import (
    VersatileDiffusionDualGuidedPipeline,
    VersatileDiffusionImageVariationPipeline,
    VersatileDiffusionPipeline,
    VersatileDiffusionTextToImagePipeline,
)

__all__ = [
    "VersatileDiffusionDualGuidedPipeline",
    "VersatileDiffusionImageVariationPipeline",
    "VersatileDiffusionPipeline",
    "VersatileDiffusionTextToImagePipeline",
]
