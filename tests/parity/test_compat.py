"""The drop-in beside diffusers' own pipelines, on small components of random weights."""

import inspect
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from PIL import Image

from tests.parity.small_pipelines import NAMES, PROMPTS, assert_same, built, mended, seeded
from versatile_diffusion import compat

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
    latents = torch.randn(1, 4, 8, 8)
    assert_same(ours, theirs, PROMPTS[0], latents=latents)
    expected = seeded(theirs, PROMPTS[0], latents=latents)
    for form in (latents.numpy(), latents.numpy().astype(">f8"), latents.tolist()):
        np.testing.assert_allclose(seeded(ours, PROMPTS[0], latents=form), expected, atol=1e-4)
    with pytest.raises(ValueError, match="latents holds values that are NaN"):
        ours(PROMPTS[0], latents=latents * torch.nan)
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


def test_components_go_from_one_pipeline_to_another() -> None:
    whole = built(compat, "")
    assert isinstance(whole.image_unet, compat.UNet2DConditionModel)
    part = built(compat, "TextToImage", **whole.components)
    np.testing.assert_array_equal(seeded(part, PROMPTS[0]), seeded(whole.text_to_image, PROMPTS[0]))


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
