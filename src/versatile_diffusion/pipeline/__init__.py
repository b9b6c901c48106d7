"""The pipeline: a request is encoded, sampled and decoded."""

from versatile_diffusion._moved import former_names

__getattr__ = former_names(
    __name__,
    {
        "CallbackOnStepEnd": "versatile_diffusion.pipeline.pipeline:CallbackOnStepEnd",
        "Modalities": "versatile_diffusion.modalities.collection:Modalities",
        "VersatileDiffusionPipeline": "versatile_diffusion.applications.versatile:VersatileDiffusionPipeline",
    },
)
