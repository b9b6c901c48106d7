"""What a dry run tells, and memory that is counted beside memory that is taken."""

import json
from contextlib import nullcontext
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.profiler import ProfilerActivity, profile
from torch.testing._internal.distributed.fake_pg import FakeStore
from typer.testing import CliRunner

from tests.processes import start
from tests.unit.training import drawn_data
from tests.unit.training.shallow_model import SHALLOW, save_shallow
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.cli import app
from versatile_diffusion.diffuser import DiffuserConfig
from versatile_diffusion.flows import Flow
from versatile_diffusion.model_presets import build, tiny
from versatile_diffusion.training.loop.sharding import shard
from versatile_diffusion.training.loop.task import TrainingConfig
from versatile_diffusion.training.loop.trainer import Trainer
from versatile_diffusion.training.own_data import dry_run
from versatile_diffusion.training.own_data.own_encoders import OWN_ENCODERS
from versatile_diffusion.training.own_data.step_memory import step_memory
from versatile_diffusion.training.own_data.trained_layers import prepare
from versatile_diffusion.training.samples.random_latents import RandomLatents
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.training.stages.preparation import learnt_schedule
from versatile_diffusion.training.tasks.diffuser import DiffuserTask


@pytest.fixture(scope="module")
def model(session_pipe: VersatileDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_shallow(session_pipe, tmp_path_factory.mktemp("models") / "shallow")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("data")
    (place / "broken.png").write_bytes(b"no picture")
    return drawn_data.folder(place, 12)


@pytest.fixture(autouse=True)
def _small_official_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dry_run.SIZES, dry_run.OFFICIAL, lambda: replace(tiny(), diffuser=SHALLOW))


def vd(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_it_tells_what_would_happen_and_writes_nothing(data: str, model: str, tmp_path: Path) -> None:
    small = ["--steps", "30", "--batch-size", "2", "--rank", "2", "--flows", "text-to-image", "--json"]
    told = vd("train", data, "--start", model, "--output", str(tmp_path / "run"), "--dry-run", *small)
    assert told.exit_code == 0, told.output
    assert not (tmp_path / "run").exists()
    found = json.loads(told.stdout)
    assert found["data"]["usable"] == 12 and list(found["data"]["skipped"]) == ["broken"]
    assert found["data"]["buckets"] == {"image 16×16": 12}
    assert found["flows"] == ["text-to-image"]
    assert set(found["trained"]["groups"]) == {"data_layers.image", "context_layers.text"}
    # 4×16×16 numbers of a picture, 16×24 of each of 18 captions, two bytes each
    assert found["disk"]["cache"] == 2 * (12 * 4 * 16 * 16 + 18 * 16 * 24)
    trained = 4 * found["trained"]["parameters"]
    assert found["disk"]["checkpoint"] == pytest.approx(4 * trained, rel=0.02)  # with an average and two moments
    assert found["plan"]["samples_of_each_flow"] == 60 and found["plan"]["times_through_the_data"] == 5
    assert found["step"]["seconds"] > 0 and found["plan"]["seconds"] == 30 * found["step"]["seconds"]
    memory = {(each["what"], each["checkpointing"]): each for each in found["memory"]}
    assert set(memory) == {("this model", False), ("this model", True), ("the official model", True)}
    cards = memory["this model", False]["cards"]
    assert cards["1"] > cards["8"] > cards["64"] and cards["1"] > memory["this model", True]["cards"]["1"]


def test_a_model_that_is_not_here_is_counted_by_its_sizes(data: str, tmp_path: Path) -> None:
    small = ["--flows", "image-to-text", "--train", "all"]
    told = vd("train", data, "--start", dry_run.OFFICIAL, "--output", str(tmp_path / "run"), "--dry-run", *small)
    assert told.exit_code == 0, told.output
    assert "not measured" in told.stdout and "64 cards" in told.stdout and "global_layers" in told.stdout


def test_all_stages_of_a_model_from_nothing_are_timed(data: str, tmp_path: Path) -> None:
    small = ["--start", "preset:tiny", "--steps", "3", "--batch-size", "2", "--set", "clip.batch_size=4"]
    told = vd("train", data, *small, "--set", "kl.steps=7", "--output", str(tmp_path / "run"), "--dry-run", "--json")
    assert told.exit_code == 0, told.output
    assert not (tmp_path / "run").exists()
    found = json.loads(told.stdout)
    assert [stage["name"] for stage in found["stages"]] == [*OWN_ENCODERS, "one_flow", "two_flow", "four_flow"]
    seconds = {stage["name"]: stage["steps"] * stage["time"]["seconds"] for stage in found["stages"]}
    assert found["stages"][1]["steps"] == 7 and all(each > 0 for each in seconds.values())
    assert found["plan"]["seconds"] == pytest.approx(sum(seconds.values()))
    assert found["trained"]["parameters"] == found["trained"]["of"] and len(found["flows"]) == 4
    no = vd("train", data, *small, "--output", str(tmp_path / "run"), "--dry-run", "--filter", "paper")
    assert no.exit_code == 1 and "min_similarity needs a column" in no.output


@pytest.mark.parametrize(
    ("words", "message"),
    [(("--json",), "--dry-run"), (("--dry-run", "--flows", "text-to-song"), "text-to-song")],
)
def test_what_cannot_be_told_is_named(words: tuple[str, ...], message: str, data: str, model: str) -> None:
    told = vd("train", data, "--start", model, *words)
    assert told.exit_code in (1, 2) and message in told.output


def test_a_data_set_that_teaches_nothing_is_named(model: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    told = vd("train", str(tmp_path / "data"), "--start", model, "--dry-run")
    assert told.exit_code == 1 and "It is empty" in told.output


SIZES = replace(tiny(), diffuser=DiffuserConfig(64, (1, 4), (1, 1), (True, False), num_heads=4))
CONFIG = TrainingConfig(10, 2, 1e-3)


def task(flows: list[str], settings: dict[str, object]) -> DiffuserTask:
    """Of a model of 12 million parameters and pictures of 64 pixels."""
    parsed = [Flow.parse(flow) for flow in flows]
    model = build(SIZES, parsed)
    prepare(model.diffuser, parsed, TrainingSettings.model_validate({"data": "none", **settings}))
    return DiffuserTask(model.diffuser, parsed, RandomLatents(model.modalities, 64), learnt_schedule(model.scheduler))


def taken(task: DiffuserTask, folder: Path) -> int:
    """The most bytes that a step really holds, as PyTorch's profiler sees them allocated."""
    trainer = Trainer(task, CONFIG, folder)
    trainer.update()
    kept = [*trainer.model.parameters(), *trainer.average.tensors.values()]
    for part in trainer.weights.optimizer.parts:
        kept += [value for state in part.state.values() for value in state.values()]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        trainer.update()
    profiler: Any = told.profiler  # which has types in part
    events = profiler.kineto_results.events()
    sizes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return sum(each.nbytes for each in kept) + max(accumulate(sizes))


@pytest.mark.parametrize(
    ("flows", "settings"),
    [
        (["text-to-image"], {"train": "all"}),
        (["text-to-image", "image-to-text"], {"train": "lora", "checkpointing": True}),
    ],
)
def test_memory_is_counted_as_it_is_taken(flows: list[str], settings: dict[str, object], tmp_path: Path) -> None:
    counted = step_memory(task(flows, settings), CONFIG, "no")
    trained = task(flows, settings).model
    assert counted.weights == sum(each.nbytes for each in trained.parameters())
    assert (
        counted.average == counted.gradients == sum(each.nbytes for each in trained.parameters() if each.requires_grad)
    )
    assert counted.moments == pytest.approx(2 * counted.average, rel=0.02)
    assert counted.peak() == pytest.approx(taken(task(flows, settings), tmp_path), rel=0.1)


def test_a_flow_is_counted_by_a_larger_one_that_is_like_it() -> None:
    flows = [Flow.parse(name) for name in ("text-to-image", "image-variation", "image-to-text")]
    modalities = build(SIZES, flows).modalities
    largest = dry_run.largest_alike(flows, modalities)  # texts have 16 tokens here, images 5, all 24 wide
    assert largest == {flows[0]: flows[0], flows[1]: flows[0], flows[2]: flows[2]}
    each = step_memory(task(["text-to-image", "image-variation"], {"train": "all"}), CONFIG, "no")
    alike = dry_run.as_of(flows[1], flows[0], each.passes[0])
    assert alike.reached == each.passes[1].reached
    assert alike.most() == pytest.approx(each.passes[1].most(), rel=0.05)


def print_shared(processes: int) -> None:
    """Tells what one of several processes holds that share the model out, as PyTorch's own tracker sees it."""
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=processes)
    shared = task(["text-to-image"], {"train": "all", "checkpointing": True})
    shard(shared.model, shared.units(), torch.device("cpu"), torch.float32)
    optimizer = torch.optim.AdamW(shared.model.parameters(), 1e-3)
    tracker = FSDPMemTracker(shared.model, optimizer)
    for tracked in (False, True):
        with tracker if tracked else nullcontext():
            for compute in shared.passes(shared.draw(torch.Generator(), CONFIG.batch_size)):
                sum(compute().values(), torch.zeros(())).backward()
            optimizer.step()
            optimizer.zero_grad()
    average = sum(each.nbytes for each in shared.model.parameters()) // processes
    print(average + sum(int(sizes["Total"]) for sizes in tracker.get_tracker_snapshot("peak").values()))


def test_several_processes_share_it() -> None:
    process = start(print_shared, 8)
    counted = step_memory(task(["text-to-image"], {"train": "all", "checkpointing": True}), CONFIG, "no")
    assert process.returncode == 0, process.stderr
    assert counted.peak(8) == pytest.approx(int(process.stdout.split()[-1]), rel=0.1)
