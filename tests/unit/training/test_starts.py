"""What training begins from: Stable Diffusion v1 as the paper, presets with encoders from elsewhere, T5, bad starts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Generator
from transformers import CLIPConfig, CLIPModel, T5ForConditionalGeneration
from typer.testing import CliRunner

from tests.unit.checkpoints.folders import save_stable_diffusion, save_stable_diffusion_file
from tests.unit.training import drawn_data
from tests.unit.training.small_encoders import save_t5
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.checkpoints import CheckpointError, Components
from versatile_diffusion.cli import app
from versatile_diffusion.diffuser.model import ContextTokens
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import TextModality
from versatile_diffusion.model_presets import build, tiny
from versatile_diffusion.training.own_data.finetuning import FineTuning
from versatile_diffusion.training.own_data.fresh_layers import fresh_tensors
from versatile_diffusion.training.own_data.named_presets import named_preset, preset_names
from versatile_diffusion.training.own_data.starts import assemble
from versatile_diffusion.training.settings.choices import Trained
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.validation import checked

SMALL: dict[str, Any] = {"steps": 1, "batch_size": 2, "warmup_steps": 1, "validation": 0, "checkpoint_every": 1}
FOUR = ["text-to-image", "image-variation", "image-to-text", "text-variation"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return drawn_data.folder(tmp_path_factory.mktemp("data"), 4)


@pytest.fixture(scope="module")
def stable(session_pipe: VersatileDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion v1, as diffusers and transformers save it."""
    folder = tmp_path_factory.mktemp("models") / "sd"
    held = Components(session_pipe.diffuser, dict(session_pipe.modalities.items()), session_pipe.scheduler)
    save_stable_diffusion_file(held, folder.with_suffix(".safetensors"), save_stable_diffusion(held, folder))
    return folder


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_t5(tmp_path_factory.mktemp("models") / "t5")


def settings(data: str, **changes: Any) -> TrainingSettings:
    return checked(TrainingSettings, {"data": data, **SMALL, **changes})


# ---- Stable Diffusion v1 ----


def test_stable_diffusion_gives_its_layers_as_the_paper_says(stable: Path, model: Path) -> None:
    start = assemble(str(stable), [str(model)], None, seed=0).load(torch.float32)
    assert start.diffuser.config["outputs"] == ["image", "text"]
    held = start.diffuser.state_dict()
    of_images = {name: tensor for name, tensor in held.items() if name.startswith("context_layers.image.")}
    assert of_images
    for name, tensor in of_images.items():  # the single flow, image variation, began as all of Stable Diffusion
        assert torch.equal(tensor, held[name.replace(".image.", ".text.", 1)])
    unet = UNet2DConditionModel.from_pretrained(stable / "unet").eval()
    noisy, tokens = torch.randn(2, 4, 16, 16), torch.randn(2, 7, 24)
    with torch.no_grad():
        expected = unet(noisy, torch.tensor([3, 700]), encoder_hidden_states=tokens).sample
        for context in ("text", "image"):
            made = start.diffuser(noisy, torch.tensor([3, 700]), "image", [ContextTokens(context, tokens)])
            torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


def test_stable_diffusion_as_one_file_is_the_same_start(stable: Path, model: Path) -> None:
    starts = [assemble(str(each), [str(model)], None, 0) for each in (stable, stable.with_suffix(".safetensors"))]
    folder, file = ({name: dict(of) for name, of in start.tensors.items()} for start in starts)
    assert {name: set(of) for name, of in file.items()} == {name: set(of) for name, of in folder.items()}
    for name, of in folder.items():
        assert all(torch.equal(tensor.load(), file[name][key].load()) for key, tensor in of.items())


def test_encoders_come_from_the_start_and_what_it_lacks_from_elsewhere(stable: Path, model: Path) -> None:
    start = assemble(str(stable), [str(model)], [Flow.parse(name) for name in FOUR], seed=0).load(torch.float32)
    own = VersatileDiffusionPipeline.from_pretrained(stable, torch_dtype=torch.float32)
    other = VersatileDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32)
    words, pixels = start.modalities["text"], start.modalities["image"]
    assert torch.equal(words.embed(["a red tent"]), own.encode_context("text", "a red tent"))
    assert torch.equal(words.encode(["a red tent"]), other.encode("text", "a red tent"))
    picture = torch.rand(3, 32, 32, generator=Generator().manual_seed(0))
    assert torch.equal(pixels.embed([picture]), other.encode_context("image", picture))
    assert torch.equal(pixels.encode([picture]), own.encode("image", picture))


def test_image_variation_is_trained_from_stable_diffusion(stable: Path, model: Path, data: str, tmp_path: Path) -> None:
    words = ["train", data, "--start", str(stable), "--encoders", str(model), "--flows", "image-variation"]
    words += ["--steps", "1", "--batch-size", "2", "--output", str(tmp_path), "--validation", "0"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert f"--model {tmp_path / 'start'} --lora {tmp_path / 'lora'}:1.0" in done.stdout
    pipe = VersatileDiffusionPipeline.from_pretrained(tmp_path / "start")
    pipe.load_lora(tmp_path / "lora")


def test_a_clip_of_transformers_encodes_images_and_texts(stable: Path, tmp_path: Path) -> None:
    vision, text = tiny().image.context_encoder, tiny().text.context_encoder
    sizes = CLIPConfig(vision_config=vision, text_config=text, projection_dim=24)
    CLIPModel(sizes).save_pretrained(tmp_path / "clip")
    start = assemble(str(stable), [str(tmp_path / "clip")], [Flow.parse("image-variation")], seed=0)
    assert start.load(torch.float32).modalities["image"].embed([torch.rand(3, 32, 32)]).shape == (1, 5, 24)
    wide = CLIPConfig(vision_config=vision, text_config=text, projection_dim=32)
    CLIPModel(wide).save_pretrained(tmp_path / "wide")
    with pytest.raises(CheckpointError, match=r"take tokens of 24 numbers.*image.* gives tokens of 32.*same width"):
        assemble(str(stable), [str(tmp_path / "wide")], [Flow.parse("image-variation")], seed=0)


# ---- presets ----


def test_presets_are_found_by_name() -> None:
    assert {"tiny", "vd-four-flow", "stable-diffusion-v1", "postcards", "emoji"} <= set(preset_names())
    assert named_preset("preset:tiny").diffuser == tiny().diffuser
    with pytest.raises(ValueError, match=r"no preset 'tinny', only .*tiny"):
        named_preset("tinny")


def test_new_layers_are_those_of_a_new_model_and_the_same_every_time() -> None:
    diffuser = build(tiny()).diffuser
    first, again, other = (fresh_tensors(diffuser, seed) for seed in (0, 0, 1))
    assert first.keys() == diffuser.state_dict().keys()
    drawn = {name: tensor.load(torch.float32) for name, tensor in first.items()}
    for name, tensor in diffuser.state_dict().items():
        assert drawn[name].shape == tensor.shape
        spread = float(tensor.std(correction=0))
        assert tensor.numel() < 500 or drawn[name].std(correction=0) == pytest.approx(spread, rel=0.2), name
    assert all(torch.equal(drawn[name], again[name].load(torch.float32)) for name in drawn)
    assert any(not torch.equal(drawn[name], other[name].load(torch.float32)) for name in drawn)


# ---- T5 ----


def test_imagens_single_flow_is_trained_saved_opened_and_drawn(
    t5: Path, model: Path, data: str, tmp_path: Path
) -> None:
    chosen = settings(data, start="preset:tiny", encoders=(str(t5), str(model)), flows=("text-to-image",))
    assert chosen.train is Trained.ALL
    pipe = VersatileDiffusionPipeline.from_pretrained(FineTuning(chosen, tmp_path).train(), torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    made = pipe.text_to_image("a red tent", num_inference_steps=2, height=32, width=32, output_type="pt").images
    assert made.shape == (1, 3, 32, 32)
    text = pipe.modalities["text"]
    assert isinstance(text, TextModality)
    ids = text.context_ids(["a red tent"])
    expected = T5ForConditionalGeneration.from_pretrained(t5).eval().encoder(ids, attention_mask=(ids > 0).long())
    tokens, there = text.embed(["a red tent"]), int((ids > 0).sum())
    torch.testing.assert_close(tokens[:, :there], expected.last_hidden_state[:, :there], rtol=0, atol=2e-3)
    assert there < tokens.shape[1] == text.context_shape[0] and not tokens[:, there:].any()


# ---- bad starts ----


@pytest.mark.parametrize(
    ("flows", "message"),
    [
        (["image-variation"], "image-variation needs the context encoder of images.*--encoders"),
        (["image-to-text"], "image-to-text needs the autoencoder of texts.*--encoders"),
    ],
)
def test_a_flow_that_there_is_no_encoder_for_is_named(flows: list[str], message: str, stable: Path, t5: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        assemble(str(stable), [str(t5)], [Flow.parse(name) for name in flows], seed=0)


def test_a_flow_that_the_start_lacks_is_named_with_what_to_do(stable: Path, data: str, tmp_path: Path) -> None:
    chosen = settings(data, start=str(stable), flows=("image-variation",))
    with pytest.raises(CheckpointError, match=r"has no flow image-variation.*--encoders"):
        FineTuning(chosen, tmp_path).train()


def test_a_folder_that_holds_no_encoder_is_named(stable: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no model that is known"):
        assemble(str(stable), [str(tmp_path)], None, seed=0)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match=r"a model of the type 'bert'.*clip"):
        assemble(str(stable), [str(tmp_path)], None, seed=0)


def test_a_part_of_what_has_learnt_nothing_is_not_trained(data: str) -> None:
    with pytest.raises(ValueError, match=r"train=lora .* preset:tiny has learnt nothing"):
        settings(data, start="preset:tiny", train="lora")
