"""`vd train DATA` on data that is encoded on the way: which is, what is said, going on, and filters."""

import json
import re
import shutil
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.processes import start, together
from tests.unit.training import drawn_data
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.training.loop.checkpoint import checkpoints, read_memory
from versatile_diffusion.training.own_data.finetuning import FineTuning
from versatile_diffusion.training.samples import user_samples
from versatile_diffusion.training.samples.sample_cache import SampleCache
from versatile_diffusion.training.samples.sample_stream import SampleStream
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.validation import checked


@pytest.fixture(scope="module")
def model(session_pipe: VersatileDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    session_pipe.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Ninety samples in three tars, one of them damaged."""
    place = tmp_path_factory.mktemp("data")
    source = drawn_data.many_tars(place, 90, 30)
    with tarfile.open(place / "00003.tar", "w") as tar:
        drawn_data.add(tar, "broken.png", b"no picture")
    return source


def settings(data: str, model: str, **changes: object) -> TrainingSettings:
    small: dict[str, object] = {"steps": 4, "batch_size": 8, "warmup_steps": 1, "checkpoint_every": 2, "sheet_every": 4}
    small |= {"flows": ("text-to-image", "image-variation"), "rank": 2, "cache": "never"}
    return checked(TrainingSettings, {"data": data, "start": model, "validation": 0.2, **small, **changes})


def train(data: str, model: str, folder: str) -> None:
    """A run in a process of its own."""
    FineTuning(settings(data, model), Path(folder)).train()


def same_state(one: Path, other: Path) -> None:
    """Weights, their average, the optimizer and where the data is."""
    newest = [checkpoints(run / "training")[-1] for run in (one, other)]
    first, second = (load_file(folder / "state.safetensors") for folder in newest)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert [{**read_memory(folder), "seconds": 0} for folder in newest[:1]] == [
        {**read_memory(folder), "seconds": 0} for folder in newest[1:]
    ]


def test_a_run_that_was_killed_equals_one_that_was_not(data: str, model: str, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done, killed = (start(train, data, model, str(run)) for run in (whole, cut))
    while not (cut / "training" / "step-00000002").exists() and killed.is_running:
        time.sleep(0.001)
    killed.kill()
    assert killed.returncode != 0, killed.stderr
    for later in checkpoints(cut / "training")[1:]:  # it may have come further before it died
        shutil.rmtree(later)
    again = start(train, data, model, str(cut))
    assert again.returncode == 0 and done.returncode == 0, again.stderr + done.stderr
    same_state(whole, cut)
    assert read_memory(checkpoints(cut / "training")[-1])["data"][0]["step"] == 4, "in the middle of a block"
    lines = [json.loads(line) for line in (cut / "skipped.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == ["00003.tar/broken"], "named once, however often it was read"
    assert "samples, read on the way" in (cut / "index.html").read_text()


def test_what_is_measured_on_stays_the_same_and_is_not_learnt(data: str, model: str, tmp_path: Path) -> None:
    first = FineTuning(settings(data, model), tmp_path).samples
    again = FineTuning(settings(data, model), tmp_path).samples
    held = {key for shard in first["validation"].shards for key in shard.keys}  # pyright: ignore
    assert held == {key for shard in again["validation"].shards for key in shard.keys}  # pyright: ignore
    assert 5 < len(held) < 40
    stream = again["training"]
    assert isinstance(stream, SampleStream) and len(stream.shown) >= 4
    block = stream.reader.read(0, stream.flows)
    assert not held.intersection(sample.key for sample in block.samples)


@pytest.mark.slow
def test_two_processes_train_on_streams_and_go_on(data: str, model: str, tmp_path: Path) -> None:
    places: list[object] = []
    for _ in range(2):
        for process in together(train, data, model, str(tmp_path)):
            assert process.returncode == 0, process.stderr
        newest = checkpoints(tmp_path / "training")[-1]
        places.append(read_memory(newest)["data"])
        shutil.rmtree(newest)
    assert places[0] == places[1]


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ({}, SampleCache, "About 9\\d samples take .* encoded first."),
        ({"cache": "never"}, SampleStream, "computed on the way."),
        (
            {"cache_limit": 1e-5},
            SampleStream,
            r"on the way, since there is room for 10\.5 KiB \(--cache-limit\)",
        ),
        ({"most": 50}, SampleStream, "of which this run draws 32. --cache always encodes them first"),
    ],
)
def test_size_decides_what_is_encoded_first_and_is_said(
    changes: dict[str, Any],
    kind: type,
    told: str,
    data: str,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(user_samples, "AT_ONCE", changes.pop("most", 10_000))
    said: list[str] = []
    changes = {"cache": "auto", **changes}
    assert isinstance(FineTuning(settings(data, model, **changes), tmp_path, said.append).samples["training"], kind)
    assert len(said) == 1 and re.search(told, said[0]), said
    monkeypatch.setattr(user_samples, "AT_ONCE", 10_000)
    if changes["cache"] == "auto":
        again = FineTuning(settings(data, model, cache="auto"), tmp_path, said.append).samples["training"]
        assert isinstance(again, kind) and len(said) == 1, "a run goes on as it began"


@pytest.mark.parametrize(("cache", "dtype"), [("never", torch.bfloat16), ("always", torch.float32)])
def test_encoders_that_stay_are_held_in_what_steps_compute_in(
    cache: str, dtype: torch.dtype, data: str, model: str, tmp_path: Path
) -> None:
    run = FineTuning(settings(data, model, cache=cache, precision="bf16"), tmp_path)
    assert run.samples["training"].teaches(run.flows[0])
    assert run.model.modalities["image"].dtype == dtype


def test_a_cache_that_would_be_too_large_is_refused_before_it_is_begun(data: str, model: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"more than .* --cache-limit, or compute them on the way with --cache never"):
        FineTuning(settings(data, model, cache="always", cache_limit=1e-5), tmp_path).train()
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_flow_that_the_data_does_not_teach_is_named(model: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    drawn_data.picture(0).save(tmp_path / "data" / "a.png")
    chosen = settings(str(tmp_path / "data"), model, flows=("image-variation", "image-to-text"), validation=0)
    with pytest.raises(ValueError, match="teaches image-variation, but not image-to-text"):
        FineTuning(chosen, tmp_path / "run").train()


def test_data_of_which_nothing_can_be_learnt_is_named(model: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match=r"Nothing can be learnt from .* It is empty"):
        FineTuning(settings(str(tmp_path / "data"), model), tmp_path / "run").train()
    (tmp_path / "data" / "a.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="Of a: "):
        FineTuning(settings(str(tmp_path / "data"), model), tmp_path / "other").train()
