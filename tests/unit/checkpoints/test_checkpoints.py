import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.unit.checkpoints import folders as made
from versatile_diffusion.bundled import bundled_weights
from versatile_diffusion.checkpoints import (
    CheckpointError,
    Components,
    UnavailableError,
    convert,
    load,
    open_source,
    save,
)
from versatile_diffusion.checkpoints.sources import locate
from versatile_diffusion.checkpoints.tensors import open_tensors
from versatile_diffusion.diffuser import ContextTokens
from versatile_diffusion.flows import Flow
from versatile_diffusion.model_presets import build, tiny

FLOWS = ["text-to-image", "image-variation", "image-to-text", "text-variation"]


@pytest.fixture(scope="module")
def model() -> Components:
    return made.random_model()


def flows(*names: str) -> list[Flow]:
    return [Flow.parse(name) for name in names]


def eps(components: Components, output: str, context: str) -> torch.Tensor:
    torch.manual_seed(1)
    latents = torch.randn(1, *components.modalities[output].latent_shape())
    tokens = [ContextTokens(context, torch.randn(1, 5, components.modalities[context].context_dim))]
    with torch.inference_mode():
        return components.diffuser(latents, torch.tensor([7]), output, tokens)


@pytest.mark.parametrize("shard", ["5GB", "1MB"])
def test_a_saved_model_loads_as_it_was(model: Components, tmp_path: Path, shard: str):
    save(model, tmp_path / "model", max_shard_size=shard)
    loaded = load(tmp_path / "model")
    made.assert_equal(loaded, model)
    assert loaded.scheduler.timesteps.equal(model.scheduler.timesteps)  # pyright: ignore
    assert loaded.modalities["text"].encode(["a red house"]).equal(model.modalities["text"].encode(["a red house"]))
    assert not any(tensor.is_meta for tensor in loaded.modalities["text"].buffers())


def test_the_scale_of_contexts_is_saved_and_is_1_where_none_was(tmp_path: Path):
    preset = replace(tiny(), diffuser=replace(tiny().diffuser, context_scale=5.0))
    save(build(preset, flows("image-variation")), tmp_path / "model")
    assert load(tmp_path / "model").diffuser.plan.config.context_scale == 5.0
    config = tmp_path / "model/diffuser/config.json"
    kept = {name: value for name, value in json.loads(config.read_text()).items() if name != "context_scale"}
    config.write_text(json.dumps(kept))
    assert load(tmp_path / "model").diffuser.plan.config.context_scale == 1.0


@pytest.mark.parametrize("name", FLOWS)
def test_one_flow_reads_only_its_tensors(model: Components, tmp_path: Path, name: str):
    save(model, tmp_path / "model")
    flow = Flow.parse(name)
    loaded = load(tmp_path / "model", [flow])
    made.assert_equal(loaded, model)
    assert list(loaded.diffuser.data_layers) == [flow.output]
    assert list(loaded.diffuser.context_layers) == [flow.context]
    assert loaded.modalities.keys() == {flow.output, flow.context}
    assert eps(loaded, flow.output, flow.context).equal(eps(model, flow.output, flow.context))
    for modality, config in ((flow.output, "autoencoder"), (flow.context, "context_encoder")):
        assert getattr(loaded.modalities[modality], config) is not None


def test_a_part_of_a_model_can_be_saved_and_loaded(model: Components, tmp_path: Path):
    save(model, tmp_path / "whole")
    convert(tmp_path / "whole", tmp_path / "part", flows=flows("text-to-image"))
    loaded = load(tmp_path / "part")
    made.assert_equal(loaded, model)
    with pytest.raises(CheckpointError, match="image-to-text"):
        load(tmp_path / "part", flows("image-to-text"))


def test_weights_are_cast(model: Components, tmp_path: Path):
    save(model, tmp_path / "model")
    convert(tmp_path / "model", tmp_path / "half", torch.float16)
    weights = load(tmp_path / "half").diffuser.state_dict()
    key = "global_layers.linear_in.weight"
    assert weights[key].equal(model.diffuser.state_dict()[key].half())
    assert load(tmp_path / "model", torch_dtype=torch.bfloat16).diffuser.dtype == torch.bfloat16


def test_a_loaded_model_can_be_trained_without_touching_its_files(model: Components, tmp_path: Path):
    save(model, tmp_path / "model")
    loaded = load(tmp_path / "model")
    with torch.no_grad():
        for parameter in loaded.diffuser.parameters():
            parameter.add_(1)
    made.assert_equal(load(tmp_path / "model"), model)


def test_saving_again_replaces_the_model_and_keeps_what_lies_beside_it(model: Components, tmp_path: Path):
    folder = tmp_path / "model"
    save(model, folder)
    (folder / "README.md").write_text("mine")
    (folder / ".git" / "refs").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text("mine, too")
    links = {".git/LAST": "HEAD", "versions": ".git", "removed": "nothing"}
    for name, target in links.items():
        (folder / name).symlink_to(target)
    other = made.random_model(seed=1)
    save(other, folder)
    made.assert_equal(load(folder), other)
    convert(folder, folder, flows=flows("image-variation"))
    parts = {"model_index.json", "pipeline.py", "diffuser", "scheduler", "image"}
    assert {path.name for path in folder.iterdir()} == parts | {"README.md", ".git", "versions", "removed"}
    assert (folder / "README.md").read_text() == "mine"
    assert (folder / ".git" / "HEAD").read_text() == "mine, too" and (folder / ".git" / "refs").is_dir()
    assert {name: str((folder / name).readlink()) for name in links} == links
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_oracle_goes_with_a_model(model: Components, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save(model, tmp_path / "model")
    (tmp_path / "model" / "oracle").mkdir()
    (tmp_path / "model" / "oracle" / "config.json").write_text("reads")
    (tmp_path / "model" / "checkpoints").mkdir()
    convert(tmp_path / "model", tmp_path / "copy", torch.float16, flows("text-to-image"))
    assert (tmp_path / "copy" / "oracle" / "config.json").read_text() == "reads"
    assert not (tmp_path / "copy" / "checkpoints").exists()
    for again in (lambda: save(model, tmp_path / "copy"), lambda: convert(tmp_path / "copy", tmp_path / "copy")):
        again()
        assert (tmp_path / "copy" / "oracle" / "config.json").read_text() == "reads"

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("shutil.copytree", fail)
    with pytest.raises(OSError, match="no space"):
        convert(tmp_path / "model", tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "model"]


def test_a_model_can_be_saved_over_the_folder_it_was_loaded_from(model: Components, tmp_path: Path):
    save(model, tmp_path / "model")
    save(load(tmp_path / "model"), tmp_path / "model")
    made.assert_equal(load(tmp_path / "model"), model)


def test_saving_does_not_destroy_a_folder_of_something_else(model: Components, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="something else"):
        save(model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_model_is_saved_whole_or_not_at_all(model: Components, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save(model, tmp_path / "model")

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(type(model.modalities["text"]), "save_assets", fail)
    with pytest.raises(OSError, match="no space"):
        save(made.random_model(seed=1), tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    made.assert_equal(load(tmp_path / "model"), model)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_official_files(model: Components, tmp_path: Path, legacy: bool, inside: bool):
    made.save_official(model, tmp_path / "pth", legacy, inside)
    loaded = open_source(tmp_path / "pth")
    made.assert_equal(loaded, model)
    assert loaded.diffuser.config["num_heads"] == 8
    for output, context in (("image", "text"), ("text", "image")):
        assert eps(model, output, context).shape == eps(made_square(loaded), output, context).shape
    assert loaded.modalities["text"].embed(["a red house"]).equal(model.modalities["text"].embed(["a red house"]))


def made_square(components: Components) -> Components:
    """Official files do not tell the size of pictures, so it is the official one: make it small."""
    autoencoder = made.image(components).autoencoder
    assert autoencoder is not None
    autoencoder.register_to_config(sample_size=32)
    return components


def test_one_of_several_official_files(model: Components, tmp_path: Path):
    made.save_official(made.random_model(seed=1), tmp_path)
    made.save_official(model, tmp_path, legacy=True)
    made.assert_equal(open_source(tmp_path / "vd-four-flow-v1-0-deprecated.pth"), model)


@pytest.mark.parametrize("name", FLOWS)
def test_official_files_need_only_what_a_flow_needs(model: Components, tmp_path: Path, name: str):
    made.save_official(model, tmp_path, inside=False)
    unneeded = "optimus-vae.pth" if name.endswith(("to-image", "image-variation")) else "kl-f8.pth"
    (tmp_path / unneeded).unlink()
    made.assert_equal(open_source(tmp_path, flows(name)), model)


@pytest.mark.parametrize(("library", "safe"), [("diffusers", True), ("versatile_diffusion", False)])
def test_diffusers_folder(model: Components, tmp_path: Path, library: str, safe: bool):
    made.save_diffusers(model, tmp_path / "vd", library=library, safe=safe)
    loaded = open_source(tmp_path / "vd")
    made.assert_equal(loaded, model)
    for output, context in (("image", "text"), ("text", "image"), ("image", "image"), ("text", "text")):
        assert eps(loaded, output, context).equal(eps(model, output, context))
    made.assert_equal(open_source(tmp_path / "vd", flows("text-variation")), model)


def test_diffusers_folder_without_optimus_makes_images(model: Components, tmp_path: Path):
    made.save_diffusers(model, tmp_path / "vd", optimus=False)
    assert list(open_source(tmp_path / "vd").diffuser.data_layers) == ["image"]
    with pytest.raises(CheckpointError, match=r"Optimus.*optimus-vae\.pth"):
        open_source(tmp_path / "vd", flows("image-to-text"))


def test_stable_diffusion_is_one_flow(model: Components, tmp_path: Path):
    clip = made.save_stable_diffusion(model, tmp_path / "sd").eval()
    loaded = open_source(tmp_path / "sd")
    assert eps(loaded, "image", "text").equal(eps(model, "image", "text"))
    ids = made.text(loaded).context_ids(["a red house"])
    assert loaded.modalities["text"].embed(["a red house"]).equal(clip(ids).last_hidden_state)
    convert(tmp_path / "sd", tmp_path / "ours")
    assert (
        load(tmp_path / "ours")
        .modalities["text"]
        .embed(["the sea"])
        .equal(loaded.modalities["text"].embed(["the sea"]))
    )
    with pytest.raises(CheckpointError, match="image-to-text"):
        open_source(tmp_path / "sd", flows("image-to-text"))


def test_old_attention_names_of_the_kl_autoencoder(model: Components, tmp_path: Path):
    made.save_diffusers(model, tmp_path / "vd")
    file = tmp_path / "vd" / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(file)
    for new, name in old.items():
        tensors = {key.replace(f".{new}.", f".{name}."): tensor for key, tensor in tensors.items()}
    save_file(tensors, file)
    made.assert_equal(open_source(tmp_path / "vd", flows("text-to-image")), model)


def test_truncated_and_foreign_files_are_named(model: Components, tmp_path: Path):
    save(model, tmp_path / "model")
    weights = tmp_path / "model" / "diffuser" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"diffuser/diffusion_pytorch_model\.safetensors is damaged"):
        load(tmp_path / "model")
    weights.write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="damaged"):
        load(tmp_path / "model")
    save_file({"lm_head.weight": torch.zeros(2)}, weights)
    with pytest.raises(CheckpointError, match=r"1368|missing \(global_layers"):
        load(tmp_path / "model")
    weights.unlink()
    with pytest.raises(CheckpointError, match="no weights"):
        load(tmp_path / "model")


def test_number_formats_that_cannot_be_read_are_named(tmp_path: Path):
    save_file({"scale": torch.zeros(2).to(torch.float8_e4m3fn)}, tmp_path / "small.safetensors")
    with pytest.raises(CheckpointError, match=r"small\.safetensors holds scale as F8_E4M3.* F16"):
        open_tensors(tmp_path / "small.safetensors")


def test_weights_of_another_size_are_named(model: Components, tmp_path: Path):
    save(model, tmp_path / "model")
    config = tmp_path / "model" / "text" / "config.json"
    sizes = json.loads(config.read_text())
    sizes["context_encoder"]["vocab_size"] = 7
    config.write_text(json.dumps(sizes))
    with pytest.raises(CheckpointError, match=r"token_embedding\.weight: \(99, 32\) instead of \(7, 32\)"):
        load(tmp_path / "model")


def test_unexpected_and_missing_official_keys_are_named(model: Components, tmp_path: Path):
    made.save_official(model, tmp_path)
    file = tmp_path / "vd-four-flow-v1-0.pth"
    tensors = torch.load(file, weights_only=True)
    torch.save(tensors | {"diffuser.audio.data_blocks.0.0.weight": torch.zeros(1)}, file)
    with pytest.raises(CheckpointError, match=r"1 unexpected \(diffuser\.audio\.data_blocks\.0\.0\.weight\)"):
        open_source(tmp_path)
    torch.save(tensors | {"optimizer.step": torch.zeros(1)}, file)
    with pytest.raises(CheckpointError, match=r"1 unexpected \(optimizer\.step\)"):
        open_source(tmp_path)
    del tensors["diffuser.image.context_blocks.1.0.norm.weight"]
    torch.save(tensors, file)
    with pytest.raises(CheckpointError, match=r"1 missing \(diffuser\.image\.context_blocks\.1\.0\.norm\.weight\)"):
        open_source(tmp_path)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1/0",)


@pytest.mark.parametrize("legacy_format", [False, True])
def test_pickles_of_more_than_tensors_are_refused(model: Components, tmp_path: Path, legacy_format: bool):
    made.save_official(model, tmp_path)
    for content in ({"a": Bomb()}, {"a": torch.zeros(1), "b": "text"}):
        file = tmp_path / "vd-four-flow-v1-0.pth"
        torch.save(content, file, _use_new_zipfile_serialization=not legacy_format)
        with pytest.raises(CheckpointError, match="more than tensors"):
            open_source(tmp_path)


def test_truncated_pth_is_named(model: Components, tmp_path: Path):
    made.save_official(model, tmp_path)
    file = tmp_path / "vd-four-flow-v1-0.pth"
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match=r"vd-four-flow-v1-0\.pth is damaged"):
        open_source(tmp_path)


def test_pth_of_old_pytorch_and_nested_state_dicts_are_read(tmp_path: Path):
    expected = {"a": torch.randn(3), "b": torch.arange(4)}
    torch.save({"state_dict": expected}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    actual = open_tensors(tmp_path / "old.pth")
    assert all(actual[key].load().equal(tensor) for key, tensor in expected.items())
    assert actual["b"].load(torch.float16).dtype == torch.int64


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("postcard", "Did you mean 'postcards'"),
        ("gpt-4", "hub id"),
        ("./nowhere/at/all", "no model"),
        ("", "Models are"),
    ],
)
def test_unknown_models_list_what_is_possible(source: str, message: str):
    with pytest.raises(CheckpointError, match=message):
        open_source(source)


def test_folder_of_something_else(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no model that is known"):
        open_source(tmp_path)


def test_only_a_folder_that_holds_a_model_hides_a_bundled_one(
    model: Components, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("postcards").mkdir()
    Path("postcards", "pictures.npy").touch()
    assert locate("postcards") == bundled_weights("postcards")
    with pytest.raises(CheckpointError, match="no model that is known"):
        open_source("./postcards")
    made.save_official(model, Path("postcards"))
    made.assert_equal(open_source("postcards"), model)


def test_no_network_says_how_to_bring_a_model_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def unreachable(*args: object, **kwargs: object) -> None:
        raise ConnectionError("unreachable")

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"hf download shi-labs/versatile-diffusion --local-dir"):
        open_source("shi-labs/versatile-diffusion")


def test_tensors_of_any_size_and_layout_are_read_whole(tmp_path: Path):
    large = torch.randn(3, 2_000_001).half()
    torch.save({"large": large, "column": large.t()[:4], "number": torch.tensor(3)}, tmp_path / "some.pth")
    tensors = open_tensors(tmp_path / "some.pth")
    for key, expected in {"large": large, "column": large.t()[:4], "number": torch.tensor(3)}.items():
        assert tensors[key].load().equal(expected)
        assert tensors[key].load(torch.float32).equal(expected.float() if key != "number" else expected)
