"""The four pipelines that diffusers deprecated, under their names and with their arguments.

    from diffusers import VersatileDiffusionPipeline               # before
    from versatile_diffusion.compat import VersatileDiffusionPipeline     # after

Equal generators give equal pictures. `image_unet` can be called, searched, given LoRAs and trained as that of
diffusers, which is what code that decodes brains does; see docs/brain-decoding-migration.md. New code is better off
with `versatile_diffusion.VersatileDiffusionPipeline`, which makes texts, too.
"""

from versatile_diffusion.compat.attention import DualTransformer2DModel
from versatile_diffusion.compat.pipelines import (
    VersatileDiffusionDualGuidedPipeline,
    VersatileDiffusionImageVariationPipeline,
    VersatileDiffusionPipeline,
    VersatileDiffusionTextToImagePipeline,
)
from versatile_diffusion.compat.unets import UNet2DConditionModel, UNetFlatConditionModel

__all__ = [
    "DualTransformer2DModel",
    "UNet2DConditionModel",
    "UNetFlatConditionModel",
    "VersatileDiffusionDualGuidedPipeline",
    "VersatileDiffusionImageVariationPipeline",
    "VersatileDiffusionPipeline",
    "VersatileDiffusionTextToImagePipeline",
]
