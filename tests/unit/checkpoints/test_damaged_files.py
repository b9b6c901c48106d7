"""Whatever bytes a file holds, opening it ends well or in an error of ours. Seeded: the same mutations every time."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.unit.checkpoints import folders as made
from versatile_diffusion.checkpoints import CheckpointError, open_source, save
from versatile_diffusion.checkpoints.lora_files import read_lora
from versatile_diffusion.checkpoints.tensors import open_tensors
from versatile_diffusion.flows import Flow

HEADER = 600
VALUES: tuple[object, ...] = (None, -1, 0, 3, 1.5, "x", "", True, [], [1], {}, {"a": 1}, [None], "fp16", 1e300)


def mutated(content: bytes, draw: random.Random, window: int) -> bytes:
    """Some bytes near the beginning or the end changed, taken out, repeated or cut off."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        where = draw.randrange(min(window, len(data)) or 1)
        where = where if draw.random() < 0.7 or len(data) < window else len(data) - 1 - where
        match draw.randrange(5):
            case 0:
                data[where : where + 1] = bytes([draw.randrange(256)])
            case 1:
                data[where : where + draw.randint(1, 8)] = draw.randbytes(draw.randint(0, 8))
            case 2:
                data[where:where] = data[where : where + draw.randint(1, 40)]
            case 3:
                data[where : where + 1] = draw.choice(
                    [b"0", b"9", b"-", b'"', b"{", b"]", b"\x00", b"\xff", b"\xed\xa0"]
                )
            case _:
                data = data[: where if draw.random() < 0.3 else len(data)]
        if not data:
            break
    return bytes(data)


def altered(value: Any, draw: random.Random) -> Any:
    """JSON with one of its values, however deep, replaced or taken out."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(sorted(value))
        rest = {name: each for name, each in value.items() if name != key}
        return rest if draw.random() < 0.3 else rest | {key: altered(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.7:
        where = draw.randrange(len(value))
        return [altered(each, draw) if i == where else each for i, each in enumerate(value)]
    return draw.choice(VALUES)


def outcome(attempt: Callable[[], object]) -> bool:
    """Whether it went well. Anything but an error of ours, no longer than a screen, fails the test."""
    try:
        attempt()
    except CheckpointError as error:
        assert 10 < len(str(error)) < 3000
        return False
    return True


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of tensors in each format."""
    folder = tmp_path_factory.mktemp("files")
    tensors = {f"model.layers.{i}.weight": torch.randn(3, 4) for i in range(4)}
    save_file(tensors, folder / "a.safetensors", {"format": "pt"})
    torch.save(tensors, folder / "a.pth")
    torch.save({"state_dict": tensors}, folder / "old.ckpt", _use_new_zipfile_serialization=False)
    factors = {
        "lora_unet_conv_in.lora_down.weight": torch.randn(2, 4, 3, 3),
        "lora_unet_conv_in.alpha": torch.tensor(1.0),
    }
    factors |= {"lora_unet_conv_in.lora_up.weight": torch.randn(32, 2, 1, 1)}
    save_file(
        factors, folder / "lora.safetensors", {"lora_adapter_metadata": json.dumps({"unet.r": 2, "unet.lora_alpha": 4})}
    )
    (folder / "a.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict.fromkeys(tensors, "a.safetensors")})
    )
    return folder


def attempts(files: Path, name: str, folder: Path, seed: int) -> Iterator[Path]:
    """The same file, damaged in one way after another, beside the others."""
    draw, content = random.Random(seed), (files / name).read_bytes()
    for other in files.iterdir():
        shutil.copy(other, folder)
    for _ in range(60):
        (folder / name).write_bytes(mutated(content, draw, HEADER))
        yield folder / name


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "old.ckpt", "a.safetensors.index.json"])
def test_damaged_tensors(files: Path, name: str, tmp_path: Path):
    assert outcome(lambda: open_tensors(files / name))

    def opened(file: Path) -> None:
        for tensor in open_tensors(file).values():
            assert len(tensor.shape) >= 0

    well = [outcome(lambda file=file: opened(file)) for file in attempts(files, name, tmp_path, seed=1)]
    assert not all(well), "some of it was noticed"
    for file in attempts(files, name, tmp_path, seed=2):
        assert not outcome(lambda file=file: open_source(file)), "that is no model"


def test_damaged_loras(files: Path, tmp_path: Path):
    assert outcome(lambda: read_lora(files / "lora.safetensors", {"text": 24}))

    def opened(file: Path) -> None:
        for factors in read_lora(file, {"text": 24}).unet.values():
            assert not factors.fits((32, 4, 3, 3)) or factors.load((32, 4, 3, 3))[0].shape[1:] == (4, 3, 3)

    well = [outcome(lambda file=file: opened(file)) for file in attempts(files, "lora.safetensors", tmp_path, seed=3)]
    assert not all(well)


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("layout", ["ours", "stable diffusion"])
def test_damaged_configurations(layout: str, tmp_path: Path):
    model, folder = made.random_model(), tmp_path / "model"
    if layout == "ours":
        save(model, folder)
        parts = (
            "model_index.json",
            "diffuser/config.json",
            "image/config.json",
            "scheduler/scheduler_config.json",
        )
    else:
        made.save_stable_diffusion(model, folder)
        parts = ("model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json")
    draw, flows = random.Random(4), [Flow.parse("text-to-image")]
    for part in parts:
        whole = (folder / part).read_text()
        for number in range(4):
            values = altered(json.loads(whole), draw)
            text = json.dumps(values) if number else whole[: len(whole) // 2]
            (folder / part).write_text(text)
            outcome(lambda: open_source(folder, flows))
        (folder / part).write_text(whole)
