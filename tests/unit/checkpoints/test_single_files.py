"""A single file as the model: Stable Diffusion v1 whole, any file of a folder, and what is none of these."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from tests.unit.checkpoints import folders as made
from versatile_diffusion.checkpoints import CheckpointError, Components, diffuser_layouts, open_source, save
from versatile_diffusion.checkpoints.keys import to_theirs
from versatile_diffusion.checkpoints.layouts import file_reader, folder_reader
from versatile_diffusion.cli import app
from versatile_diffusion.diffuser import ContextTokens
from versatile_diffusion.flows import Flow


@pytest.fixture(scope="module")
def model() -> Components:
    return made.random_model()


@pytest.fixture(scope="module")
def sd(model: Components, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small Stable Diffusion, and beside it the same as one file."""
    folder = tmp_path_factory.mktemp("models") / "sd"
    clip = made.save_stable_diffusion(model, folder)
    made.save_stable_diffusion_file(model, folder.with_suffix(".safetensors"), clip)
    return folder


def eps(components: Components) -> torch.Tensor:
    torch.manual_seed(1)
    latents, tokens = torch.randn(1, 4, 16, 16), [ContextTokens("text", torch.randn(1, 5, 24))]
    with torch.inference_mode():
        return components.diffuser(latents, torch.tensor([7]), "image", tokens)


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_stable_diffusion_as_one_file_is_its_folder(model: Components, sd: Path, suffix: str, tmp_path: Path):
    folder = open_source(sd)
    file = sd.with_suffix(suffix)
    if suffix == ".ckpt":
        file = tmp_path / "sd.ckpt"
        torch.save({"state_dict": load_file(sd.with_suffix(".safetensors"))}, file)
        made.save_tokenizers(model, tmp_path)
    opened = open_source(file)
    assert eps(opened).equal(eps(folder))
    for name, modality in opened.modalities.items():
        expected = folder.modalities[name].state_dict()
        assert modality.state_dict().keys() == expected.keys()
        assert all(tensor.equal(expected[key]) for key, tensor in modality.state_dict().items())
    assert opened.modalities["text"].embed(["a red house"]).equal(folder.modalities["text"].embed(["a red house"]))
    assert vars(opened.scheduler)["timesteps"].equal(vars(folder.scheduler)["timesteps"])
    with pytest.raises(CheckpointError, match="no flow image-to-text"):
        open_source(file, [Flow.parse("image-to-text")])


def test_the_names_of_latent_diffusion_are_those_that_diffusers_knows(model: Components):
    plan, held = model.diffuser.plan, model.diffuser.state_dict()
    single, folder = diffuser_layouts.stable_diffusion(plan), diffuser_layouts.diffusers_unet(plan, "image", "text")
    theirs = to_theirs(single, {key: held[key] for key in single})
    converted = convert_ldm_unet_checkpoint(
        theirs, {"layers_per_block": 1, "class_embed_type": None, "addition_embed_type": None}
    )
    expected = to_theirs(folder, {key: held[key] for key in folder})
    assert converted.keys() == expected.keys()
    assert all(tensor.equal(expected[key]) for key, tensor in converted.items())


def changed(sd: Path, file: Path, without: str = "", **others: torch.Tensor) -> Path:
    tensors = load_file(sd.with_suffix(".safetensors"))
    kept = {key: tensor for key, tensor in tensors.items() if not (without and key.startswith(without))}
    save_file(kept | {key.replace("__", "."): tensor for key, tensor in others.items()}, file)
    return file


FIRST = "model__diffusion_model__input_blocks__0__0__weight"


@pytest.mark.parametrize(
    ("others", "without", "message"),
    [
        ({FIRST: torch.zeros(32, 9, 3, 3)}, "", r"an inpainting model .*9 channels"),
        ({FIRST: torch.zeros(32, 8, 3, 3)}, "", r"InstructPix2Pix .*8 channels"),
        ({"cond_stage_model__model__ln_final__weight": torch.zeros(2)}, "cond_stage_model.t", "is Stable Diffusion 2"),
        ({"conditioner__embedders__0__x": torch.zeros(2)}, "cond_stage_model", "is SDXL"),
        ({"control_model__x": torch.zeros(2)}, "", "is a ControlNet"),
        ({}, "first_stage_model", r"no autoencoder \(first_stage_model\.\*\)"),
        ({}, "cond_stage_model", "no text encoder"),
        ({"optimizer__step": torch.zeros(1)}, "", r"1 unexpected \(optimizer\.step\)"),
        ({}, "model.diffusion_model.middle_block.1.norm", r"2 missing \(model\.diffusion_model\.middle_block\.1\.norm"),
    ],
)
def test_kin_of_stable_diffusion_are_named(
    sd: Path, others: dict[str, torch.Tensor], without: str, message: str, tmp_path: Path
):
    shutil.copytree(sd / "tokenizers", tmp_path / "tokenizers")
    file = changed(sd, tmp_path / "a.safetensors", without, **others)
    with pytest.raises(CheckpointError, match=message) as raised:
        open_source(file)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 9}, "an inpainting model"),
        ({"in_channels": 8}, "InstructPix2Pix"),
        ({"cross_attention_dim": 1024, "attention_head_dim": [5, 10]}, r"of Stable Diffusion 2 \(heads"),
        ({"cross_attention_dim": 2048, "addition_embed_type": "text_time"}, r"of SDXL \(addition_embed_type"),
    ],
)
def test_kin_of_stable_diffusion_in_folders_are_named(
    sd: Path, changes: dict[str, object], message: str, tmp_path: Path
):
    shutil.copytree(sd, tmp_path / "sd")
    config = tmp_path / "sd" / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(CheckpointError, match=message):
        open_source(tmp_path / "sd")


def test_the_folder_of_brain_decoders_opens(model: Components, tmp_path: Path):
    made.save_official(model, tmp_path, legacy=True, inside=False)
    main = tmp_path / "vd-four-flow-v1-0-deprecated.pth"
    main = main.rename(tmp_path / "vd-four-flow-v1-0-fp16-deprecated.pth")
    made.assert_equal(open_source(tmp_path), model)
    assert all(stands_for(tmp_path / name, folder_reader(tmp_path)) for name in ("kl-f8.pth", "optimus-vae.pth"))
    flow = [Flow.parse("text-to-image")]
    made.assert_equal(open_source(main, flow), model)


def stands_for(file: Path, reader: object) -> bool:
    """Whether a file is read as a folder is."""
    found = file_reader(file)
    assert isinstance(found, partial) and isinstance(reader, partial)
    return (found.func, found.args, found.keywords) == (reader.func, reader.args, reader.keywords)


@pytest.mark.parametrize("layout", ["ours", "diffusers", "stable diffusion"])
def test_any_file_of_a_folder_stands_for_it(model: Components, layout: str, tmp_path: Path):
    folder = tmp_path / "model"
    match layout:
        case "ours":
            save(model, folder)
            names = ["model_index.json", "diffuser/config.json", "image/diffusion_pytorch_model.safetensors"]
        case "diffusers":
            made.save_diffusers(model, folder)
            names = [
                "model_index.json",
                "image_unet/diffusion_pytorch_model.safetensors",
                "pretrained_pth/optimus-vae.pth",
            ]
        case _:
            made.save_stable_diffusion(model, folder)
            names = ["model_index.json", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"]
    assert all(stands_for(folder / name, folder_reader(folder)) for name in names)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="is a text"):
        open_source(folder / "notes.txt")


ZIP = b"PK\x03\x04" + bytes(40)
FILES = {
    "x.rar": (b"Rar!\x1a\x07\x00" + bytes(90), "an archive. Unpack it"),
    "x.zip": (ZIP, "an archive"),
    "x.gguf": (b"GGUF" + bytes(60), "GGUF"),
    "x.onnx": (b"\x08\x07" + bytes(60), "compiled or exported"),
    "x.h5": (b"\x89HDF" + bytes(60), "another library"),
    "x.txt": (b"a model", "is a text"),
    "x.unheard": (b"a model of some kind", "no kind that holds weights"),
    "x.model": (ZIP, "damaged or not a PyTorch file"),
    "x": (b"\x80\x02}q\x00.", "damaged or not a PyTorch file"),
    "x.bin": (b"a model", "damaged"),
    "x.pt": (bytes(100), "damaged"),
    "x.ckpt": (ZIP, "damaged"),
    "x.safetensors": (b"a model, perhaps", "damaged or not a safetensors file"),
    **{f"empty{suffix}": (b"", "is empty") for suffix in (".safetensors", ".pth", ".ckpt", ".rar", ".json", "")},
}


@pytest.mark.parametrize("name", FILES)
def test_other_files_say_what_they_are(name: str, tmp_path: Path):
    content, message = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as raised:
        open_source(tmp_path / name)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["unet.conv_in.lora_A.weight"], r"is a LoRA\. .*--lora"),
        (["down_blocks.0.resnets.0.conv1.weight"], "a U-Net alone"),
        (["decoder.mid.block_1.conv1.weight"], "an autoencoder alone"),
        (["text_model.embeddings.token_embedding.weight"], "CLIP alone"),
        (["double_blocks.0.img_attn.qkv.weight"], "such as Flux"),
        (["lm_head.weight"], r"it holds lm_head\.weight"),
    ],
)
def test_tensors_of_something_else_say_what_they_are(keys: list[str], message: str, tmp_path: Path):
    save_file({key: torch.zeros(1) for key in keys}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=message):
        open_source(tmp_path / "a.safetensors")


def test_a_picture_a_pipe_and_long_names_are_no_models(tmp_path: Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe")
    for source, message in (
        (tmp_path / "a.png", "is a picture"),
        (tmp_path / "pipe", "no model that is known"),
        ("x" * 5000, "cannot be read|no model"),
        (str(tmp_path / "a\0b"), "There is no model"),
        ("~nobody-of-that-name/model", "cannot be read|no model"),
    ):
        with pytest.raises(CheckpointError, match=message) as raised:
            open_source(source)
        assert len(str(raised.value)) < 1500


def test_the_command_line_says_it_in_one_message(tmp_path: Path):
    (tmp_path / "x.rar").write_bytes(FILES["x.rar"][0])
    result = CliRunner().invoke(app, ["text-to-image", "a tent", "--model", str(tmp_path / "x.rar")])
    assert result.exit_code == 1 and "is an archive" in result.output
    assert "Traceback" not in result.output
