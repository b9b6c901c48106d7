from typing import Any, TypeVar

import pytest
import torch
from torch import nn

from tests.parity import golden
from versatile_diffusion.modalities.clip import ClipImageEncoder, ClipTextEncoder
from versatile_diffusion.modalities.image import token_weights

T = TypeVar("T", ClipImageEncoder, ClipTextEncoder)


@pytest.fixture(scope="module")
def pair() -> golden.Golden:
    return golden.read("clip")


@pytest.fixture(scope="module")
def image_encoder(pair: golden.Golden) -> ClipImageEncoder:
    return _filled(ClipImageEncoder(_config(pair, "vision_config")), pair)


def test_golden_text_context(pair: golden.Golden) -> None:
    encoder = _filled(ClipTextEncoder(_config(pair, "text_config")), pair)
    assert golden.relative_error(encoder(pair.tensors["input_ids"]), pair.tensors["text_context"]) < 1e-4


def test_golden_image_context(pair: golden.Golden, image_encoder: ClipImageEncoder) -> None:
    context = image_encoder(pair.tensors["pixel_values"])
    assert golden.relative_error(context, pair.tensors["image_context"]) < 1e-4


def test_golden_masked_image_context(pair: golden.Golden, image_encoder: ClipImageEncoder) -> None:
    context = image_encoder(pair.tensors["pixel_values"], pair.tensors["token_weights"][..., 0])
    assert golden.relative_error(context, pair.tensors["masked_image_context"]) < 1e-4


def test_golden_token_weights(pair: golden.Golden, image_encoder: ClipImageEncoder) -> None:
    masks = pair.tensors["masks"]
    picture = torch.zeros(3, *masks.shape[-2:])
    sizes = image_encoder.image_size, image_encoder.grid
    weights = torch.stack([token_weights(mask, picture, *sizes) for mask in masks])
    assert golden.relative_error(weights, pair.tensors["token_weights"][..., 0]) < 1e-4


def _config(pair: golden.Golden, part: str) -> dict[str, Any]:
    config = pair.config["config"]
    return {**config[part], "projection_dim": config["projection_dim"]}


def _filled(encoder: T, pair: golden.Golden) -> T:
    model: nn.Module = encoder.model
    weights = pair.weights()
    model.load_state_dict({key: weights[key] for key in model.state_dict()})
    return encoder.eval()
