import torch
from PIL import Image

from versatile_diffusion import VersatileDiffusionPipeline


def test_smoke(pipe: VersatileDiffusionPipeline, picture: Image.Image) -> None:
    o = dict(num_inference_steps=3, generator=torch.Generator().manual_seed(0))
    print(pipe.text_to_image("a red tent", **o).images)
    print(pipe.image_variation(picture, fidelity=0.5, color_adjust=True, **o).images)
    print(pipe.image_to_text(picture, num_outputs=3, **o).texts)
    print(pipe.text_variation("a red tent", **o).texts)
    print(pipe.dual_guided("a red tent", picture, **o).images)
