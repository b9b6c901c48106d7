"""The pipelines of diffusers, and ours of the same names, on small components of random weights."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import UNetFlatConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from versatile_diffusion.modalities.vocabulary import word_tokenizers

NAMES = ("TextToImage", "ImageVariation", "DualGuided", "")
PROMPTS = ["a red house", "two tents by the sea"]
LENGTH = 8
UNET: dict[str, Any] = {
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
    "norm_num_groups": 32,
}


def components() -> dict[str, Any]:
    torch.manual_seed(0)
    tokenizer = word_tokenizers(["a red house by the sea", "two tents at night"]).clip
    assert tokenizer is not None
    tokenizer.model_max_length = LENGTH
    eos: Any = tokenizer.eos_token_id
    shared: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
    }
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), max_position_embeddings=LENGTH, projection_dim=24, eos_token_id=eos, **shared
    )
    vision = CLIPVisionConfig(image_size=32, patch_size=16, projection_dim=24, **shared)
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", steps_offset=1, clip_sample=False, set_alpha_to_one=False)
    levels: dict[str, Any] = {
        "block_out_channels": (32, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    return {
        "tokenizer": tokenizer,
        "image_feature_extractor": CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
        "text_encoder": CLIPTextModelWithProjection(text).eval(),
        "image_encoder": CLIPVisionModelWithProjection(vision).eval(),
        "image_unet": unet(UNet2DConditionModel, "2D", 4, sample_size=8),
        "text_unet": unet(UNetFlatConditionModel, "Flat", 48, sample_size=8),
        "vae": AutoencoderKL(**levels, latent_channels=4, sample_size=16).eval(),
        "scheduler": scheduler,
    }


def unet(cls: Any, suffix: str, channels: int, **options: Any) -> Any:
    blocks = {
        "down_block_types": (f"CrossAttnDownBlock{suffix}", f"DownBlock{suffix}"),
        "up_block_types": (f"UpBlock{suffix}", f"CrossAttnUpBlock{suffix}"),
    }
    return cls(in_channels=channels, out_channels=channels, **blocks, **UNET, **options).eval()


def built(library: Any, name: str, **instead: Any) -> Any:
    cls = getattr(library, f"VersatileDiffusion{name}Pipeline")
    expected = inspect.signature(cls.__init__).parameters
    pipe = cls(**{key: value for key, value in (components() | instead).items() if key in expected})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def mended(pipe: Any) -> Any:
    """diffusers' dual-guided pipeline hands its transformers an argument that they do not take."""
    for module in pipe.image_unet.modules():
        if type(module).__name__ == "DualTransformer2DModel":
            module.forward = partial(without_mask, module.forward)
    return pipe


def without_mask(forward: Any, *args: Any, encoder_attention_mask: Any = None, **options: Any) -> Any:
    assert encoder_attention_mask is None
    return forward(*args, **options)


def seeded(call: Any, *args: Any, **options: Any) -> np.ndarray:
    options = {"num_inference_steps": 3, "output_type": "np", "generator": torch.Generator().manual_seed(3)} | options
    return call(*args, **options).images


def assert_same(ours: Any, theirs: Any, *args: Any, **options: Any) -> None:
    expected = seeded(theirs, *args, **options)
    np.testing.assert_allclose(seeded(ours, *args, **options), expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.01
