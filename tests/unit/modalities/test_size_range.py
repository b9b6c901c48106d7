"""Sizes that a model makes well, and what stands for those that it does not."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.modalities import ImageModality
from versatile_diffusion.modalities.size_range import SizeRange
from versatile_diffusion.model_presets import tiny

POSTCARDS, OFFICIAL = SizeRange.of(64, 8), SizeRange.of(512, 8)
Side = st.integers(1, 99999)


@pytest.mark.parametrize(
    ("asked", "postcards", "official"),
    [
        ((1024, 1024), (64, 64), (512, 512)),
        ((256, 256), (64, 64), (512, 512)),
        ((1024, 1792), (48, 80), (384, 672)),
        ((1536, 1024), (72, 48), (624, 416)),
        ((64, 64), (64, 64), (512, 512)),
        ((64, 96), (64, 96), (416, 624)),
        ((768, 512), (72, 48), (768, 512)),
    ],
)
def test_a_size_of_a_client_becomes_the_models_own(
    asked: tuple[int, int], postcards: tuple[int, int], official: tuple[int, int]
) -> None:
    assert POSTCARDS.nearest(*asked) == postcards and OFFICIAL.nearest(*asked) == official


@given(st.sampled_from([POSTCARDS, OFFICIAL, SizeRange.of(32, 2)]), Side, Side)
def test_whatever_is_asked_for_can_be_made(sizes: SizeRange, height: int, width: int) -> None:
    made = sizes.nearest(height, width)
    assert all(side > 0 and side % sizes.multiple == 0 for side in made)
    assert math.prod(made) <= sizes.largest_area and max(made) <= sizes.longest
    assert (sizes.far_beyond(*made) is None and sizes.nearest(*made) == made) or math.prod(made) < sizes.native**2


@given(st.integers(1024, 4096), st.integers(1024, 4096))
def test_the_aspect_is_kept(height: int, width: int) -> None:
    made = OFFICIAL.nearest(height, width)
    assert made[1] / made[0] == pytest.approx(width / height, rel=0.05)


def test_what_is_far_beyond_is_told() -> None:
    assert POSTCARDS.largest_area == 128 * 128 and SizeRange.of(64, 8, 96 * 96).largest_area == 96 * 96
    assert POSTCARDS.far_beyond(None, None) is None and POSTCARDS.far_beyond(128, 128) is None
    assert "1024 × 64 pixels" in (POSTCARDS.far_beyond(None, 1024) or "")
    assert "16384 pixels" in (POSTCARDS.far_beyond(256, 128) or "")


def test_a_model_keeps_its_largest_area(tmp_path: Path) -> None:
    preset = tiny().image
    modality = ImageModality(preset.autoencoder, preset.context_encoder, largest_area=1500)
    modality.save_pretrained(tmp_path)
    opened = ImageModality.from_pretrained(tmp_path)
    assert isinstance(opened, ImageModality) and opened.sizes == SizeRange(32, 2, 1500)
    assert ImageModality(preset.autoencoder).sizes == SizeRange(32, 2, 4096)


def test_the_library_warns_of_what_is_far_beyond(pipe: VersatileDiffusionPipeline) -> None:
    with pytest.warns(UserWarning, match="64 × 128 pixels are far more than the 32 × 32 this model was trained at"):
        made = pipe.text_to_image("a tent", num_inference_steps=1, height=128, width=64).images[0]
    assert made.size == (64, 128)
