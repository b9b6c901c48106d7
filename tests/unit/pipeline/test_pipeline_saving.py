"""Opening, saving and moving a pipeline."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.unit.pipeline.pipeline_calls import TENT, TEXT, Pipe, latents
from versatile_diffusion import Context
from versatile_diffusion.checkpoints import CheckpointError


def test_a_saved_pipeline_makes_the_same(pipe: Pipe, tmp_path: Path, picture: Image.Image) -> None:
    pipe.save_pretrained(tmp_path / "model")
    opened = Pipe.from_pretrained(tmp_path / "model")
    assert type(opened.scheduler) is type(pipe.scheduler)
    assert torch.equal(opened.scheduler.alphas_cumprod, pipe.scheduler.alphas_cumprod)
    for to in ("image", "text"):
        contexts = [TEXT, Context("image", picture)]
        assert torch.equal(latents(opened, contexts, to), latents(pipe, contexts, to))

    with pytest.raises(CheckpointError, match=r"no flow audio-to-image: it makes image or text from image or text"):
        Pipe.from_pretrained(tmp_path / "model", flows=["audio-to-image"])
    with pytest.raises(ValueError, match="'text2image' is not a flow"):
        Pipe.from_pretrained(tmp_path / "model", flows=["text2image"])
    with pytest.raises(ValueError, match="name one at least"):
        Pipe.from_pretrained(tmp_path / "model", flows=[])


@pytest.mark.parametrize("flows", [["text-to-image"], "text-to-image"])
def test_one_flow_alone(pipe: Pipe, tmp_path: Path, picture: Image.Image, flows: Any) -> None:
    pipe.save_pretrained(tmp_path / "model")
    opened = Pipe.from_pretrained(tmp_path / "model", flows=flows)
    assert torch.equal(latents(opened, TEXT), latents(pipe, TEXT))
    with pytest.raises(ValueError, match=r"makes image, not 'text'.*load the model"):
        opened.image_to_text(picture)
    with pytest.raises(ValueError, match=r"contexts of text, not of 'image'.*load it"):
        opened.image_variation(picture)
    with pytest.raises(RuntimeError, match="load the model with a flow"):
        opened.encode("text", TENT)


def test_half_precision_is_opened_as_single(pipe: Pipe, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "model")
    half = Pipe.from_pretrained(tmp_path / "model", torch_dtype=torch.float16)
    assert half.diffuser.dtype == half.modalities.dtype == torch.float16
    half.save_pretrained(tmp_path / "half")
    opened = Pipe.from_pretrained(tmp_path / "half")
    assert opened.diffuser.dtype == opened.modalities.dtype == torch.float32
    opened.to("cpu", torch.bfloat16)
    assert opened.diffuser.dtype == opened.modalities.dtype == torch.bfloat16
    assert opened.text_to_image(TENT, num_inference_steps=1, output_type="pt").images.isfinite().all()
    assert opened.image_to_text(Image.new("RGB", (8, 8)), num_inference_steps=1).texts


def test_offloading_says_that_it_needs_an_accelerator(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusers.pipelines.pipeline_utils.get_device", lambda: "cpu")
    with pytest.raises(RuntimeError, match="requires accelerator"):
        pipe.enable_model_cpu_offload()
    assert latents(pipe, TEXT).isfinite().all()


def test_offloading_moves_the_modalities_before_they_are_used(pipe: Pipe) -> None:
    from accelerate import cpu_offload_with_hook
    from accelerate.hooks import remove_hook_from_module

    expected = latents(pipe, TEXT)
    moved: list[str] = []
    try:
        _, hook = cpu_offload_with_hook(pipe.modalities, "cpu")
        hook.hook.pre_forward = lambda module, *args, **kwargs: moved.append("modalities")  # pyright: ignore
        assert torch.equal(latents(pipe, TEXT), expected)
        assert moved
    finally:
        remove_hook_from_module(pipe.modalities)
