import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from versatile_diffusion.diffuser.plan import DiffuserConfig, Plan
from versatile_diffusion.modalities.image import ImageModality, clip_pixels, token_weights

_AUTOENCODER = {
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "block_out_channels": [8, 8, 8],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
    "sample_size": 16,
}
_CONTEXT = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 24,
    "patch_size": 8,
    "projection_dim": 12,
}
_DRAW = np.random.default_rng(0)


@pytest.fixture(scope="module")
def image() -> ImageModality:
    torch.manual_seed(0)
    return ImageModality(autoencoder=_AUTOENCODER, context_encoder=_CONTEXT, scaling_factor=0.5).eval()


def _picture(height: int, width: int) -> Image.Image:
    return Image.fromarray(_DRAW.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_sizes(image: ImageModality) -> None:
    assert image.factor == 4
    assert image.context_shape == (10, 12)
    assert image.latent_shape() == (4, 4, 4)
    assert image.latent_shape(8, 32) == (4, 2, 8)
    layers = image.data_layers(Plan.of(DiffuserConfig(32, (1,), (1,), (True,), 2)))
    assert layers.latent_channels == 4


@pytest.mark.parametrize(("side", "advice"), [(30, "28 or 32"), (2, "take 4"), (0, "take 4"), (-8, "take 4")])
def test_sizes_that_do_not_divide(image: ImageModality, side: int, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        image.latent_shape(height=side)
    with pytest.raises(ValueError, match=f"width must be divisible by 4, got {side}"):
        image.latent_shape(width=side)


def test_latents_have_the_announced_shape_and_scale(image: ImageModality) -> None:
    items = image.read(_picture(18, 33))
    latents = image.encode(items)
    assert latents.shape == (1, *image.latent_shape(16, 32))
    assert image.autoencoder is not None
    resized = torch.nn.functional.interpolate(items[0][None], (16, 32), mode="bicubic", antialias=True).clamp(0, 1)
    with torch.no_grad():
        mean = image.autoencoder.encode(2 * resized - 1, return_dict=False)[0].mean
    torch.testing.assert_close(latents, mean * 0.5)


def test_decoded_pictures_are_in_range(image: ImageModality) -> None:
    pictures = image.decode(100 * torch.randn(2, 4, 2, 3))
    assert [tuple(picture.shape) for picture in pictures] == [(3, 8, 12)] * 2
    assert all(picture.min() >= 0 and picture.max() <= 1 for picture in pictures)


def test_pictures_of_a_batch_have_one_size(image: ImageModality) -> None:
    with pytest.raises(ValueError, match="same size"):
        image.encode(image.read([_picture(8, 8), _picture(8, 12)]))


def test_pil_levels_and_floats_have_one_embedding(image: ImageModality) -> None:
    picture = _picture(40, 31)
    levels = np.asarray(picture)
    forms: list[Any] = [picture, levels, levels.astype(np.float32) / 255, torch.from_numpy(levels.copy()) / 255]
    first, *others = (image.embed(image.read(form)) for form in forms)
    assert first.shape == (1, 10, 12)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("size", [(24, 24), (50, 31), (31, 50), (24, 25), (7, 9), (1, 1), (90, 91)])
def test_clip_sees_what_its_own_processor_makes(size: tuple[int, int]) -> None:
    picture = _picture(*size)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    expected = processor(picture, return_tensors="pt")["pixel_values"][0]
    item = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    torch.testing.assert_close(clip_pixels(item, 24), expected, atol=1e-5, rtol=0)


def test_very_long_pictures_are_not_blown_up(image: ImageModality) -> None:
    assert image.embed([torch.rand(3, 1, 100_000)]).isfinite().all()


def test_the_embedding_of_a_batch_is_that_of_its_pictures(image: ImageModality) -> None:
    items = image.read([_picture(30, 40), _picture(24, 24)])
    torch.testing.assert_close(image.embed(items), torch.cat([image.embed([item]) for item in items]))


def test_the_class_token_has_unit_length(image: ImageModality) -> None:
    norms = image.embed(image.read([_picture(24, 24), _picture(9, 9)])).norm(dim=-1)
    torch.testing.assert_close(norms[:, 0], torch.ones(2))


def test_a_full_mask_changes_nothing(image: ImageModality) -> None:
    items = image.read([_picture(30, 40)])
    torch.testing.assert_close(image.embed(items, np.ones((30, 40))), image.embed(items))


def test_what_is_masked_is_not_seen(image: ImageModality) -> None:
    items = image.read([_picture(24, 24)])
    mask = np.zeros((24, 24))
    mask[:8] = 1
    changed = items[0].clone()
    changed[:, 8:] = 0.3
    tokens = image.embed(items, mask)
    torch.testing.assert_close(tokens, image.embed([changed], mask))
    assert not tokens[:, 4:].any()
    assert tokens[:, :4].any()


def test_each_picture_may_have_its_own_mask(image: ImageModality) -> None:
    items = image.read([_picture(24, 24), _picture(24, 24)])
    mask = np.zeros((24, 24))
    mask[:8] = 1
    both = image.embed(items, [mask, None])
    torch.testing.assert_close(both, torch.cat([image.embed(items[:1], mask), image.embed(items[1:])]))
    with pytest.raises(ValueError, match="as many masks"):
        image.embed(items, [mask])


def test_token_weights_are_shares_of_the_central_square() -> None:
    mask = np.zeros((4, 8))
    mask[:, 4:] = 1  # the right half of the picture is the right half of its central square
    weights = token_weights(mask, torch.zeros(3, 20, 40), size=4, grid=2)
    assert weights.tolist() == [0.5, 0, 1, 0, 1]
    mask[:, :7] = 0
    with pytest.raises(ValueError, match="central square"):
        token_weights(mask, torch.zeros(3, 20, 40), size=4, grid=2)


def test_unconditional_contexts(image: ImageModality) -> None:
    zeros = image.unconditional("image")
    assert zeros.shape == (1, 10, 12)
    assert not zeros.any()
    black = image.embed(image.read(Image.new("RGB", (50, 30))))
    torch.testing.assert_close(image.unconditional("text"), black)


def test_focus_finds_the_patches(image: ImageModality) -> None:
    one, other = torch.randn(2, 1, 10, 12, generator=torch.Generator().manual_seed(2))
    together = image.focus(torch.cat([one, other], dim=1), 0.8)
    torch.testing.assert_close(together, torch.cat([image.focus(one, 0.8), image.focus(other, 0.8)], dim=1))
    torch.testing.assert_close(image.focus(one[:, 1:], 0.8), image.focus(one, 0.8)[:, 1:])


def test_focus_keeps_the_class_token(image: ImageModality) -> None:
    tokens = image.embed(image.read([_picture(24, 24)]))
    focused = image.focus(tokens, 0.1)
    assert torch.equal(focused[:, 0], tokens[:, 0])
    assert not torch.allclose(focused[:, 1:], tokens[:, 1:])


@pytest.mark.parametrize(
    "use",
    [
        lambda image: image.latent_shape(),
        lambda image: image.decode(torch.zeros(1, 4, 2, 2)),
        lambda image: image.embed([torch.zeros(3, 8, 8)]),
        lambda image: image.unconditional("image"),
        lambda image: image.context_dim,
    ],
)
def test_parts_that_are_not_loaded_are_named(use: Any) -> None:
    with pytest.raises(RuntimeError, match="not loaded: load the model with a flow"):
        use(ImageModality())


def test_a_saved_modality_comes_back(image: ImageModality, tmp_path: Path) -> None:
    image.save_pretrained(tmp_path)
    loaded = ImageModality.from_config(json.loads((tmp_path / "config.json").read_text()))
    assert isinstance(loaded, ImageModality)
    loaded.load_state_dict(load_file(tmp_path / "diffusion_pytorch_model.safetensors"))
    items = image.read([_picture(16, 16)])
    loaded.eval()
    assert torch.equal(loaded.encode(items), image.encode(items))
    assert torch.equal(loaded.embed(items), image.embed(items))
