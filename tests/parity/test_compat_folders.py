"""Folders that diffusers' pipelines save, opened by the drop-in and by our own pipeline."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from PIL import Image
from transformers import CLIPImageProcessor

from tests.parity.small_pipelines import PROMPTS, assert_same, built, components, mended, seeded, unet
from versatile_diffusion import VersatileDiffusionPipeline, compat
from versatile_diffusion.checkpoints import CheckpointError

FLOWS = {"TextToImage": "text_to_image", "ImageVariation": "image_variation", "DualGuided": "dual_guided"}


def inputs(name: str, picture: Image.Image) -> tuple[Any, ...]:
    return {"TextToImage": (PROMPTS[0],), "ImageVariation": (picture,), "DualGuided": (PROMPTS[0], picture, 0.3)}[name]


@pytest.mark.parametrize(
    ("name", "unused"),
    [
        ("TextToImage", False),
        ("TextToImage", True),
        ("ImageVariation", False),
        ("DualGuided", False),
        ("DualGuided", True),
    ],
)
def test_a_folder_of_one_flow(name: str, unused: bool, tmp_path: Path, picture: Image.Image) -> None:
    """With and without the `text_unet`, whose context layers diffusers has moved or copied to `image_unet`."""
    theirs, given = mended(built(diffusers, name)), inputs(name, picture)
    if unused:
        theirs.remove_unused_weights()
    theirs.save_pretrained(tmp_path, variant="fp16" if unused else None)
    assert (tmp_path / "text_unet").is_dir() == (name != "ImageVariation" and not unused)
    assert_same(getattr(compat, f"VersatileDiffusion{name}Pipeline").from_pretrained(tmp_path), theirs, *given)
    ours = getattr(VersatileDiffusionPipeline.from_pretrained(tmp_path), FLOWS[name])
    assert_same(ours, theirs, *given, guidance_scale=1.0)  # their unconditional pictures are grey
    if name == "TextToImage":
        assert_same(ours, theirs, *given)


def test_a_folder_of_all_flows(tmp_path: Path, picture: Image.Image) -> None:
    built(diffusers, "").save_pretrained(tmp_path)
    whole = compat.VersatileDiffusionPipeline.from_pretrained(tmp_path)
    ours = VersatileDiffusionPipeline.from_pretrained(tmp_path)
    for name, flow in FLOWS.items():
        theirs, given = mended(built(diffusers, name)), inputs(name, picture)
        assert_same(getattr(whole, flow), theirs, *given)
        assert_same(getattr(compat, f"VersatileDiffusion{name}Pipeline").from_pretrained(tmp_path), theirs, *given)
        assert_same(getattr(ours, flow), theirs, *given, guidance_scale=1.0)
    scheduler = PNDMScheduler(skip_prk_steps=True)
    other = compat.VersatileDiffusionImageVariationPipeline.from_pretrained(tmp_path, scheduler=scheduler)
    assert other.scheduler is scheduler


def test_a_model_of_the_hub_brings_its_feature_extractor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Image.Image
) -> None:
    """Only files that are asked for are there, as after a download."""
    other = CLIPImageProcessor(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}, image_mean=[0.1] * 3)
    theirs = built(diffusers, "ImageVariation", image_feature_extractor=other)
    theirs.save_pretrained(tmp_path / "hub")
    files = [str(path.relative_to(tmp_path / "hub")) for path in (tmp_path / "hub").rglob("*") if path.is_file()]

    def download(repo: str, allow_patterns: list[str], **options: object) -> str:
        for file in allow_patterns:
            (tmp_path / repo / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tmp_path / "hub" / file, tmp_path / repo / file)
        return str(tmp_path / repo)

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda api, repo, revision: files)
    monkeypatch.setattr("versatile_diffusion.checkpoints.hub.snapshot_download", download)
    ours = compat.VersatileDiffusionImageVariationPipeline.from_pretrained("someone/model")
    assert_same(ours, theirs, picture)


def test_components_of_a_dual_guided_pipeline_of_diffusers(picture: Image.Image) -> None:
    theirs = mended(built(diffusers, "DualGuided"))
    theirs.remove_unused_weights()
    ours = compat.VersatileDiffusionDualGuidedPipeline(**theirs.components)
    ours.set_progress_bar_config(disable=True)
    assert_same(ours, theirs, *inputs("DualGuided", picture))


@pytest.mark.parametrize(("name", "other"), [("TextToImage", "ImageVariation"), ("ImageVariation", "TextToImage")])
def test_a_folder_of_another_flow_is_refused(name: str, other: str, tmp_path: Path) -> None:
    built(diffusers, name).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"has no flow .*: it makes image from"):
        getattr(compat, f"VersatileDiffusion{other}Pipeline").from_pretrained(tmp_path)


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


def test_a_folder_of_ours(pipe: VersatileDiffusionPipeline, tmp_path: Path, picture: Image.Image) -> None:
    pipe.save_pretrained(tmp_path / "model")
    opened = compat.VersatileDiffusionPipeline.from_pretrained(tmp_path / "model", torch_dtype=torch.float32)
    assert seeded(opened.text_to_image, "a red tent").shape == seeded(opened.image_variation, picture).shape
    with pytest.raises(NotImplementedError, match="save that"):
        opened.save_pretrained(tmp_path / "other")
    half = compat.VersatileDiffusionPipeline.from_pretrained(tmp_path / "model", dtype=torch.float16)
    assert half.image_unet.dtype == half.vae.dtype == torch.float16  # pyright: ignore


def test_options_that_are_left_out_are_named(
    pipe: VersatileDiffusionPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe.save_pretrained(tmp_path / "model")
    monkeypatch.setattr("versatile_diffusion.checkpoints.hub.download", lambda repo, flows, options: tmp_path / "model")
    opened = compat.VersatileDiffusionImageVariationPipeline.from_pretrained
    with pytest.warns(UserWarning, match=r"leaves out cache_dir, revision\. .*HF_HOME"):
        opened("someone/model", cache_dir=tmp_path, revision="fp16", variant="fp16", token=None)
    with pytest.warns(UserWarning, match=r"leaves out device_map\. "):
        opened(tmp_path / "model", device_map="balanced", local_files_only=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        opened("someone/model", use_safetensors=True, low_cpu_mem_usage=True, local_files_only=False)
        opened(tmp_path / "model", local_files_only=True, safety_checker=None)
    assert not [one for one in told if "leaves out" in str(one.message)]
