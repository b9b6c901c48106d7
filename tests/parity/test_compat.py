"""The drop-in beside diffusers' own pipelines, on small components of random weights."""

import inspect
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import UNetFlatConditionModel
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from versatile_diffusion import VersatileDiffusionPipeline, compat
from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.modalities.vocabulary import word_tokenizers

NAMES = ("TextToImage", "ImageVariation", "DualGuided", "")
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


PROMPTS = ["a red house", "two tents by the sea"]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"guidance_scale": 1.0, "num_images_per_prompt": 2},
    {"eta": 0.7, "height": 16, "width": 24},
]


@pytest.mark.parametrize("options", [*OPTIONS, {"negative_prompt": ["at night", "the sea"]}])
def test_text_to_image(options: dict[str, Any]) -> None:
    ours, theirs = (built(library, "TextToImage") for library in (compat, diffusers))
    assert_same(ours, theirs, PROMPTS, **options)


@pytest.mark.parametrize("options", OPTIONS)
def test_image_variation(options: dict[str, Any], picture: Image.Image) -> None:
    ours, theirs = (built(library, "ImageVariation") for library in (compat, diffusers))
    assert_same(ours, theirs, picture, **options)
    assert_same(ours, theirs, [picture, picture.rotate(90)], **options)
    assert_same(ours, theirs, picture, negative_prompt=picture.rotate(180), **options)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_dual_guided(strength: float, picture: Image.Image) -> None:
    ours, theirs = built(compat, "DualGuided"), mended(built(diffusers, "DualGuided"))
    assert_same(ours, theirs, PROMPTS[:1], [picture], strength)
    assert_same(ours, theirs, "two tents", picture, text_to_image_strength=strength, num_images_per_prompt=2)


def test_one_pipeline_has_all_three(picture: Image.Image) -> None:
    ours, theirs = built(compat, ""), built(diffusers, "")
    assert_same(ours.text_to_image, theirs.text_to_image, PROMPTS)
    assert_same(ours.image_variation, theirs.image_variation, picture)
    dual = mended(built(diffusers, "DualGuided"))
    assert_same(ours.dual_guided, dual, PROMPTS[0], picture)


def test_other_schedulers_and_given_latents() -> None:
    scheduler = PNDMScheduler(skip_prk_steps=True)
    ours, theirs = (built(library, "TextToImage", scheduler=scheduler) for library in (compat, diffusers))
    assert_same(ours, theirs, PROMPTS[0], latents=torch.randn(1, 4, 8, 8))
    generators = [[torch.Generator().manual_seed(i) for i in (1, 2)] for _ in (0, 1)]
    expected = seeded(theirs, PROMPTS, generator=generators[0])
    np.testing.assert_allclose(seeded(ours, PROMPTS, generator=generators[1]), expected, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_arguments_and_defaults_are_those_of_diffusers(name: str) -> None:
    ours, theirs = (getattr(library, f"VersatileDiffusion{name}Pipeline") for library in (compat, diffusers))
    called = ["__init__", "__call__"] if name else ["__init__", "text_to_image", "image_variation", "dual_guided"]
    for method in called:
        mine, other = (
            {p.name: p.default for p in inspect.signature(getattr(cls, method)).parameters.values()}
            for cls in (ours, theirs)
        )
        assert [pair for pair in mine.items() if pair[0] != "kwargs"] == [p for p in other.items() if p[0] != "kwargs"]


def test_pictures_are_as_large_as_those_of_the_u_net(tmp_path: Path) -> None:
    """24 × 24 pixels, where the autoencoder was trained with 16 × 16."""
    text_unet = components()["text_unet"]
    models = [
        built(library, "", image_unet=unet(UNet2DConditionModel, "2D", 4, sample_size=12), text_unet=text_unet)
        for library in (compat, diffusers)
    ]
    models[1].save_pretrained(tmp_path)
    models.append(compat.VersatileDiffusionPipeline.from_pretrained(tmp_path))
    models.append(VersatileDiffusionPipeline.from_pretrained(tmp_path, flows=["text-to-image"]))
    for pipe in models:
        assert seeded(pipe.text_to_image, "a house", num_inference_steps=1).shape == (1, 24, 24, 3)


def test_outputs_and_callbacks() -> None:
    pipe = built(compat, "TextToImage")
    seen: list[int] = []
    output = pipe(
        "a house", num_inference_steps=4, callback=lambda step, t, latents: seen.append(step), callback_steps=2
    )
    assert isinstance(output, ImagePipelineOutput) and isinstance(output.images[0], Image.Image)
    assert seen == [0, 2]
    (latents,) = pipe("a house", num_inference_steps=1, output_type="latent", return_dict=False)
    assert latents.shape == (1, 4, 8, 8)


def test_switches_change_nothing(picture: Image.Image) -> None:
    pipe = built(compat, "DualGuided")
    before = seeded(pipe, "a house", picture)
    pipe.remove_unused_weights()
    pipe.enable_attention_slicing()
    pipe.enable_vae_tiling()
    assert pipe.vae.use_tiling
    np.testing.assert_array_equal(seeded(pipe, "a house", picture), before)


@pytest.mark.parametrize("name", NAMES)
def test_offload_moves_every_module_in_the_order_of_use(name: str) -> None:
    pipe = built(compat, name)
    modules = [key for key, part in pipe.components.items() if isinstance(part, torch.nn.Module)]
    sequence = pipe.model_cpu_offload_seq.split("->")
    assert set(modules) <= set(sequence)
    assert sequence.index("image_unet") > sequence.index("image_encoder") and sequence[-1] == "vae"


def test_components_go_from_one_pipeline_to_another() -> None:
    whole = built(compat, "")
    assert isinstance(whole.image_unet, Diffuser) and whole.text_unet is None
    part = built(compat, "TextToImage", **whole.components)
    np.testing.assert_array_equal(seeded(part, PROMPTS[0]), seeded(whole.text_to_image, PROMPTS[0]))


def test_a_folder_that_diffusers_saved(tmp_path: Path, picture: Image.Image) -> None:
    theirs = built(diffusers, "")
    theirs.save_pretrained(tmp_path)
    pipe = compat.VersatileDiffusionPipeline.from_pretrained(tmp_path)
    assert_same(pipe.text_to_image, built(diffusers, "TextToImage"), PROMPTS)
    assert_same(pipe.image_variation, built(diffusers, "ImageVariation"), picture)
    scheduler = PNDMScheduler(skip_prk_steps=True)
    other = compat.VersatileDiffusionImageVariationPipeline.from_pretrained(tmp_path, scheduler=scheduler)
    assert other.scheduler is scheduler


def test_a_folder_of_ours(pipe: VersatileDiffusionPipeline, tmp_path: Path, picture: Image.Image) -> None:
    pipe.save_pretrained(tmp_path / "model")
    opened = compat.VersatileDiffusionPipeline.from_pretrained(tmp_path / "model", torch_dtype=torch.float32)
    assert seeded(opened.text_to_image, "a red tent").shape == seeded(opened.image_variation, picture).shape
    with pytest.raises(NotImplementedError, match="save that"):
        opened.save_pretrained(tmp_path / "other")


def test_bad_input(picture: Image.Image) -> None:
    pipe = built(compat, "")
    for message, call in {
        "divisible by 8": lambda: pipe.text_to_image("a", height=20),
        "positive integer": lambda: pipe.text_to_image("a", callback_steps=0),
        "has batch size 1": lambda: pipe.text_to_image(["a", "b"], negative_prompt=["c"]),
        "2 pictures need": lambda: pipe.text_to_image(["a", "b"], generator=[torch.Generator()]),
        "needs a picture": lambda: pipe.dual_guided(["a", "b"], picture),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="of the type of the prompt"):
        pipe.text_to_image(["a"], negative_prompt="b")
    with pytest.raises(ValueError, match="text_unet is missing"):
        built(compat, "DualGuided", text_unet=None)
