from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.image import ImageModality
from versatile_diffusion.modalities.image_autoencoder import PatchAutoencoderKL, image_autoencoder
from versatile_diffusion.model_presets import ImagePreset, build, clip_vision, kl_autoencoder, tiny

CONFIG = kl_autoencoder(channels=(8, 16), layers=1, size=32, groups=4, patch_size=4)


@pytest.fixture(scope="module")
def image() -> ImageModality:
    torch.manual_seed(0)
    return ImageModality(autoencoder=CONFIG, scaling_factor=0.5).eval()


def test_a_position_stands_for_patches_and_halvings(image: ImageModality) -> None:
    assert image.factor == 8 and image.size == 32
    assert image.latent_shape() == (4, 4, 4) and image.latent_shape(64, 40) == (4, 8, 5)
    assert ImagePreset(CONFIG, None).latent_shape == image.latent_shape()
    latents = image.encode([torch.rand(3, 32, 32), torch.rand(3, 32, 32)])
    assert latents.shape == (2, 4, 4, 4)
    assert [made.shape for made in image.decode(latents)] == [(3, 32, 32)] * 2


def test_it_is_diffusers_autoencoder_of_patches(image: ImageModality) -> None:
    inside = AutoencoderKL(**{k: v for k, v in CONFIG.items() if k != "patch_size"}, in_channels=48, out_channels=48)
    assert image.autoencoder is not None
    inside.load_state_dict(image.autoencoder.state_dict())
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        patches = torch.nn.functional.pixel_unshuffle(images, 4)
        posterior: Any = inside.encode(patches, return_dict=False)[0]
        latents: Any = posterior.mean  # diffusers names another class of tensors
        torch.testing.assert_close(image.autoencoder.encode(images, return_dict=False)[0].mean, posterior.mean)
        made = torch.nn.functional.pixel_shuffle(inside.decode(latents, return_dict=False)[0], 4)
        torch.testing.assert_close(image.autoencoder.decode(latents, return_dict=False)[0], made)
        torch.testing.assert_close(image.autoencoder(images).sample, made)


def test_without_patches_it_is_diffusers_own() -> None:
    assert type(image_autoencoder(kl_autoencoder(channels=(8, 16), layers=1, size=32, groups=4))) is AutoencoderKL


def test_tiles_are_as_large_as_told(image: ImageModality) -> None:
    assert isinstance(image.autoencoder, PatchAutoencoderKL)
    torch.manual_seed(0)
    tiled = PatchAutoencoderKL(**CONFIG).eval()
    tiled.enable_tiling()
    with torch.no_grad():
        latents = tiled.encode(torch.rand(1, 3, 64, 64), return_dict=False)[0].mean
        assert latents.shape == (1, 4, 8, 8)
        assert tiled.decode(latents, return_dict=False)[0].shape == (1, 3, 64, 64)


def test_it_is_saved_and_opened_alone_and_in_a_model(tmp_path: Path) -> None:
    one = PatchAutoencoderKL(**CONFIG).eval()
    one.save_pretrained(tmp_path / "alone")
    again = PatchAutoencoderKL.from_pretrained(tmp_path / "alone", local_files_only=True)
    assert all(torch.equal(again.state_dict()[name], value) for name, value in one.state_dict().items())
    vision = clip_vision(width=16, layers=1, size=32, patch=16, projection=16, heads=2)
    preset = tiny().with_modalities(image=ImagePreset(CONFIG, vision))
    parts = build(preset, [Flow("image", "image")])
    pipe = VersatileDiffusionPipeline(parts.diffuser, parts.scheduler, parts.modalities)
    pipe.save_pretrained(tmp_path / "model")
    opened = VersatileDiffusionPipeline.from_pretrained(tmp_path / "model", flows=["image-variation"])
    given = torch.rand(3, 32, 32)
    made = [
        each.image_variation(given, num_inference_steps=1, generator=torch.Generator().manual_seed(1)).images[0]
        for each in (pipe, opened)
    ]
    assert made[0].size == (32, 32) and made[0].tobytes() == made[1].tobytes()
