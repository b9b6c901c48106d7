"""Which files of a folder are its weights: variants, shards of two kinds, safetensors and pickles."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.unit.checkpoints import folders as made
from versatile_diffusion.checkpoints import CheckpointError, Components, UnavailableError, hub, open_source
from versatile_diffusion.checkpoints.weight_files import FileOptions, WeightName, chosen

STEM = "diffusion_pytorch_model"
LEGACY = [f"{STEM}-0000{i}-of-00002.fp16.safetensors" for i in (1, 2)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"{STEM}.safetensors", (STEM, "safetensors", "", 0, False)),
        (f"{STEM}.non_ema.bin", (STEM, "bin", "non_ema", 0, False)),
        ("model-00001-of-00003.safetensors", ("model", "safetensors", "", 3, False)),
        ("model.fp16-00001-of-00002.safetensors", ("model", "safetensors", "fp16", 2, False)),
        ("pytorch_model-00001-of-00002.fp16.bin", ("pytorch_model", "bin", "fp16", 2, False)),
        ("model.safetensors.index.fp16.json", ("model", "safetensors", "fp16", 0, True)),
        ("pytorch_model.bin.index.json", ("pytorch_model", "bin", "", 0, True)),
        ("config.json", None),
        ("flax_model.msgpack", None),
        ("model.onnx", None),
    ],
)
def test_names_of_weights(name: str, expected: tuple[object, ...] | None):
    read = WeightName.of(name)
    assert (read and (read.stem, read.kind, read.variant, read.total, read.index)) == expected


BOTH = [f"{STEM}.safetensors", f"{STEM}.fp16.safetensors", f"{STEM}.bin", f"{STEM}.fp16.bin"]


@pytest.mark.parametrize(
    ("names", "options", "best"),
    [
        (BOTH, FileOptions(), [BOTH[0]]),
        (BOTH, FileOptions(variant="fp16"), [BOTH[1]]),
        (BOTH, FileOptions(use_safetensors=False), [BOTH[2]]),
        (BOTH, FileOptions(variant="fp16", use_safetensors=False), [BOTH[3]]),
        (BOTH, FileOptions(variant="ema"), [BOTH[0]]),
        (BOTH[2:], FileOptions(use_safetensors=True), []),
        (LEGACY, FileOptions(), LEGACY),
        ([*LEGACY, BOTH[0]], FileOptions(), [BOTH[0]]),
        ([*LEGACY, BOTH[0]], FileOptions(variant="fp16"), LEGACY),
        (
            [*LEGACY, f"{STEM}.safetensors.index.fp16.json"],
            FileOptions(),
            [*LEGACY, f"{STEM}.safetensors.index.fp16.json"],
        ),
    ],
)
def test_weights_that_are_taken(names: list[str], options: FileOptions, best: list[str]):
    assert chosen(names, options) == best
    downloaded = hub.needed([f"unet/{name}" for name in names], None, options)
    assert sorted(downloaded) == sorted(f"unet/{name}" for name in best)


@pytest.fixture(scope="module")
def model() -> Components:
    return made.random_model()


@pytest.fixture
def sd(model: Components, tmp_path: Path) -> Path:
    made.save_stable_diffusion(model, tmp_path / "sd")
    return tmp_path / "sd"


def split(folder: Path, index: bool) -> None:
    """Writes the weights of a part as legacy shards of a variant."""
    file = folder / f"{STEM}.safetensors"
    tensors = load_file(file)
    names = {key: LEGACY[i % 2] for i, key in enumerate(tensors)}
    for shard in LEGACY:
        save_file({key: tensors[key].half() for key, name in names.items() if name == shard}, folder / shard)
    if index:
        (folder / f"{STEM}.safetensors.index.fp16.json").write_text(json.dumps({"weight_map": names}))
    file.unlink()


@pytest.mark.parametrize("index", [True, False])
def test_legacy_shards_are_read(model: Components, sd: Path, index: bool):
    split(sd / "unet", index)
    for options in (FileOptions(), FileOptions(variant="fp16")):
        diffuser = open_source(sd, options=options).diffuser.state_dict()
        expected = model.diffuser.state_dict()
        assert all(tensor.equal(expected[key].half()) for key, tensor in diffuser.items())
    made.assert_equal(open_source(sd / "unet" / LEGACY[0]), open_source(sd))
    (sd / "unet" / LEGACY[1]).unlink()
    with pytest.raises(CheckpointError, match=r"1 of 2 shards|names 1 missing files"):
        open_source(sd)


def test_a_variant_is_taken_from_the_parts_that_have_it(model: Components, sd: Path):
    tensors = load_file(sd / "vae" / f"{STEM}.safetensors")
    save_file(
        {key: torch.zeros_like(tensor) for key, tensor in tensors.items()}, sd / "vae" / f"{STEM}.fp16.safetensors"
    )
    opened = open_source(sd, options=FileOptions(variant="fp16"))
    assert not any(tensor.any() for tensor in made.image(opened).state_dict().values())
    assert opened.diffuser.state_dict()["global_layers.linear_in.weight"].any()
    assert any(tensor.any() for tensor in made.image(open_source(sd)).state_dict().values())
    named = open_source(sd / "vae" / f"{STEM}.fp16.safetensors")
    assert not any(tensor.any() for tensor in made.image(named).state_dict().values())
    with pytest.raises(CheckpointError, match=r"no weights of the variant 'bf16', only of fp16"):
        open_source(sd, options=FileOptions(variant="bf16"))


def test_pickles_are_left_out_on_request(model: Components, sd: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match="use_safetensors=False takes"):
        open_source(sd, options=FileOptions(use_safetensors=False))
    made.save_official(model, tmp_path / "pth")
    with pytest.raises(CheckpointError, match="no safetensors: leave use_safetensors out"):
        open_source(tmp_path / "pth", options=FileOptions(use_safetensors=True))


def test_a_variant_of_official_files(model: Components, tmp_path: Path):
    made.save_official(made.random_model(seed=1), tmp_path)
    made.save_official(model, tmp_path / "other")
    shutil.move(tmp_path / "other" / "vd-four-flow-v1-0.pth", tmp_path / "vd-four-flow-v1-0-fp16.pth")
    made.assert_equal(open_source(tmp_path, options=FileOptions(variant="fp16")), model)


def test_downloads_are_asked_for_as_it_was_said(monkeypatch: pytest.MonkeyPatch, sd: Path):
    asked: list[dict[str, object]] = []

    def listed(self: object, repo: str, revision: str | None = None) -> list[str]:
        return [str(path.relative_to(sd)) for path in sd.rglob("*") if path.is_file()]

    def snapshot(repo: str, **options: object) -> str:
        asked.append(options)
        return str(sd)

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", listed)
    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    options = FileOptions(revision="fp16", cache_dir="/somewhere", token="secret", force_download=True)
    open_source("someone/something", options=options)
    expected = {"revision": "fp16", "cache_dir": "/somewhere", "token": "secret", "force_download": True}
    assert {name: asked[0][name] for name in expected} == expected
    open_source("someone/something", options=FileOptions(local_files_only=True))
    assert asked[1]["local_files_only"] is True


def test_what_the_cache_lacks_is_said(tmp_path: Path):
    options = FileOptions(local_files_only=True, cache_dir=tmp_path)
    with pytest.raises(UnavailableError, match="the cache lacks it"):
        open_source("someone/something", options=options)
