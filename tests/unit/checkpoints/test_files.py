from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from tests.unit.checkpoints import folders as made
from versatile_diffusion.checkpoints import UnavailableError, Wanted, hub
from versatile_diffusion.checkpoints.vocabularies import read_tokenizers
from versatile_diffusion.checkpoints.weight_files import ANY_FILES, find_weights
from versatile_diffusion.flows import Flow

VD = [
    ".gitattributes",
    "README.md",
    "image_encoder/config.json",
    "image_encoder/pytorch_model.bin",
    "image_feature_extractor/preprocessor_config.json",
    "image_unet/config.json",
    "image_unet/diffusion_pytorch_model.bin",
    "image_unet/diffusion_pytorch_model.fp16.bin",
    "model_index.json",
    "pretrained_pth/kl-f8.pth",
    "pretrained_pth/optimus-vae.pth",
    "pretrained_pth/vd-four-flow-v1-0.pth",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder/pytorch_model.bin",
    "text_unet/config.json",
    "text_unet/diffusion_pytorch_model-00001-of-00002.safetensors",
    "text_unet/diffusion_pytorch_model-00002-of-00002.safetensors",
    "text_unet/diffusion_pytorch_model.safetensors.index.json",
    "text_unet/diffusion_pytorch_model.fp16.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "vae/config.json",
    "vae/diffusion_pytorch_model.bin",
]


def folders(files: list[str]) -> set[str]:
    return {file.split("/")[0] for file in files}


def test_only_what_a_flow_needs_is_downloaded():
    image_variation = hub.needed(VD, [Flow.parse("image-variation")])
    whole = {"model_index.json", "scheduler", "image_unet", "vae", "image_encoder", "image_feature_extractor"}
    assert folders(image_variation) == whole
    text_to_image = hub.needed(VD, [Flow.parse("text-to-image")])
    assert not any(file.startswith("image_feature_extractor") for file in text_to_image)
    assert folders(text_to_image) >= {"image_unet", "text_unet", "vae", "text_encoder", "tokenizer"}
    assert not any(file.startswith("pretrained_pth") for file in text_to_image)
    everything = hub.needed(VD, None)
    assert "pretrained_pth/optimus-vae.pth" in everything
    assert "pretrained_pth/vd-four-flow-v1-0.pth" not in everything


def test_the_parts_of_sound_are_downloaded_without_what_denoises():
    parts = ("vae", "vocoder", "unet", "text_encoder", "text_encoder_2", "language_model", "feature_extractor")
    files = [f"{part}/{name}" for part in parts for name in ("config.json", "model.safetensors")]
    assert folders(hub.needed(files, None)) == {"vae", "vocoder", "text_encoder", "feature_extractor"}


def test_each_weight_is_downloaded_once():
    files = hub.needed(VD, None)
    assert "text_encoder/model.safetensors" in files
    assert "text_encoder/pytorch_model.bin" not in files
    assert not any("fp16" in file for file in files)
    assert sum(file.startswith("text_unet/diffusion_pytorch_model") for file in files) == 3


@pytest.mark.parametrize(
    ("names", "best"),
    [
        (["model.safetensors", "pytorch_model.bin"], "model.safetensors"),
        (["model.fp16.safetensors", "pytorch_model.bin"], "pytorch_model.bin"),
        (["model.fp16.safetensors", "pytorch_model.fp16.bin"], "model.fp16.safetensors"),
        (["model.safetensors.index.json", "model-00001-of-00001.safetensors"], "model.safetensors.index.json"),
        (
            ["model.safetensors.index.fp16.json", "model.fp16-00001-of-00001.safetensors"],
            "model.safetensors.index.fp16.json",
        ),
        (["config.json"], None),
    ],
)
def test_the_weights_that_are_downloaded_are_those_that_are_read(names: list[str], best: str | None, tmp_path: Path):
    for name in names:
        (tmp_path / name).touch()
    found = find_weights(tmp_path, ANY_FILES, ["model", "pytorch_model"])
    assert [path.name for path in found] == ([best] if best else [])
    if best is not None:
        downloaded = hub.needed([f"unet/{name}" for name in names], None)
        assert f"unet/{best}" in downloaded
        assert all(name.endswith(".json") or name == best or "-of-" in name for name in (d[5:] for d in downloaded))


def test_official_files_on_the_hub_are_found_in_a_subfolder():
    assert hub.needed([file for file in VD if file.startswith("pretrained_pth")], None) == [
        "pretrained_pth/kl-f8.pth",
        "pretrained_pth/optimus-vae.pth",
        "pretrained_pth/vd-four-flow-v1-0.pth",
    ]


def test_gpt2_gets_the_tokens_of_optimus_in_their_order(tmp_path: Path):
    made.save_tokenizers(made.random_model(), tmp_path)
    words = {"<|endoftext|>": 2, "a": 0, "house": 1}
    plain = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, "a")), bos_token="<|endoftext|>")
    plain.save_pretrained(tmp_path / "tokenizers" / "gpt2")
    gpt2 = read_tokenizers(tmp_path, Wanted(("text",), ())).gpt2
    assert gpt2 is not None
    assert [gpt2.pad_token_id, gpt2.bos_token_id, gpt2.eos_token_id] == [3, 4, 5]


def test_missing_tokenizers_say_how_to_bring_them_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("unreachable")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", unreachable)
    with pytest.raises(UnavailableError, match=r"hf download google-bert/bert-base-cased .*tokenizers/bert-base-cased"):
        read_tokenizers(tmp_path, Wanted(("text",), ()))
