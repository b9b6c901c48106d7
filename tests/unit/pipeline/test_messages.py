"""What the library says of arguments that people really give, and of their neighbours."""

from typing import Any

import pytest
import torch

from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.pipeline.initial_latents import check_generator
from versatile_diffusion.pipeline.request import Request


def test_a_text_alone_is_a_context(pipe: VersatileDiffusionPipeline) -> None:
    options: dict[str, Any] = {"num_inference_steps": 1, "seeds": (3,), "output_type": "pt"}
    whole = pipe.generate("image", [Context("text", "a tent")], negative=[Context("text", "rain")], **options)
    short = pipe.generate("image", "a tent", negative="rain", **options)
    assert torch.equal(whole.images, short.images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"negative": ["rain", "snow"]},
            r"negative must be a context, or a list of them, got 'rain'\. Write Context\('text'",
        ),
        ({"negative": 3}, "negative must be a context, or a list of them, got 3"),
        ({"num_inference_steps": True}, "num_inference_steps must be a whole number, got True"),
        ({"num_inference_steps": 20.5}, "num_inference_steps must be a whole number, got 20.5"),
        ({"num_outputs": -1}, "num_outputs must be 1 or more, got -1"),
        ({"num_outputs": 65537}, "num_outputs must be 65536 or less, got 65537"),
        ({"strength": float("inf")}, "strength must lie between 0 and 1, got inf"),
        ({"eta": float("nan")}, "eta must lie between 0 and 1, got nan"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be a finite number, got nan"),
        ({"seeds": (2**64,)}, "seeds.0 must be below 18446744073709551616"),
        ({"scheduler": "x" * 10**6}, "A scheduler is one of ddim"),
    ],
)
def test_requests(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        Request.of("image", Context("text", "a tent"), **options)
    assert len(str(caught.value)) < 1100


@pytest.mark.parametrize("steps", [20, 20.0, "20", torch.tensor(20)])
def test_whole_numbers_come_in_several_forms(steps: Any) -> None:
    assert Request.of("image", "a tent", num_inference_steps=steps).num_inference_steps == 20


@pytest.mark.parametrize("given", [42, [torch.Generator(), 42], "42"])
def test_a_seed_is_no_generator(given: Any) -> None:
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator.*manual_seed\(42\), or seeds=\(42,\)"):
        check_generator(given)
    check_generator(None)


def test_one_position_is_no_picture(pipe: VersatileDiffusionPipeline) -> None:
    with pytest.raises(ValueError, match="height and width cannot both be 2, which is a single position"):
        pipe.text_to_image("a tent", height=2, width=2)
    assert pipe.text_to_image("a tent", height=2, width=4, num_inference_steps=1).images[0].size == (4, 2)


def test_half_a_character_is_no_text(pipe: VersatileDiffusionPipeline) -> None:
    with pytest.raises(ValueError, match="half a character at 3, a surrogate without its pair"):
        pipe.text_to_image("a \ud83d tent")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 2**64 - 1, "num_outputs": 2}, "seed must be a whole number from 0 to 18446744073709551614, got"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"num_outputs": True}, "num_outputs must be 1 or more, and a whole number, got True"),
        ({"batch_size": 0}, "batch_size must be 1 or more, and a whole number, got 0"),
        ({"image_weight": float("nan")}, "image_weight must lie between 0"),
    ],
)
def test_reconstructions(pipe: VersatileDiffusionPipeline, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipe.reconstruct(torch.zeros(5, 24), **options)
