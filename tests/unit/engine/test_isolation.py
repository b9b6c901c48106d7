"""The computation in a process of its own, which may be killed."""

import multiprocessing
import os
import signal
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.processes import forked_context
from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.engine.isolation import ProcessWorker
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import BatchFailed, JobResult, Reason
from versatile_diffusion.engine.workers import Disturbed, Source, open_models

pytestmark = pytest.mark.slow
ASKED = JobRequest.of("tiny", "image", [Context("text", "a red tent")], [1], num_inference_steps=3, preview_every=2)


def changed(**changes: Any) -> JobRequest:
    return replace(ASKED, request=ASKED.request.replaced(**changes), preview_every=0)


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_context", forked_context)


class Watch:
    """Does something at the first step."""

    def __init__(self, first: Any = lambda: {0, 1}) -> None:
        self.first = first
        self.left: Collection[int] = {0, 1}
        self.steps: list[tuple[int, int, bool]] = []

    def step(self, step: int, steps: int, previews: Mapping[int, Any]) -> Collection[int]:
        self.steps.append((step, steps, bool(previews)))
        if step == 1:
            self.left = self.first()
        return self.left

    def wanted(self) -> Collection[int]:
        return self.left


def test_a_killed_computation_fails_and_the_next_one_succeeds(pipe: VersatileDiffusionPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "model")
    worker = ProcessWorker([Source("tiny", str(tmp_path / "model"))], "cpu", "fp32")
    assert worker.models["tiny"].outputs == ("image", "text")
    with pytest.raises(BatchFailed, match="no height") as wrong:
        worker.run([changed(to="text", height=64)], Watch())
    assert wrong.value.failure.reason is Reason.INVALID

    def kill() -> set[int]:
        os.kill(worker._process.pid or 0, signal.SIGKILL)
        return {0}

    with pytest.raises(BatchFailed) as failed:
        worker.run([ASKED], Watch(kill))
    assert failed.value.failure.reason is Reason.CRASHED and "SIGKILL" in failed.value.failure.message
    watch = Watch()
    (made,) = worker.run([ASKED], watch)
    assert isinstance(made, JobResult)
    (image,) = made.items
    assert isinstance(image, Image.Image) and image.size == (32, 32)
    assert watch.steps == [(1, 3, False), (2, 3, True), (3, 3, False)]
    with pytest.raises(BatchFailed):
        worker.run([ASKED], Watch(lambda: set()))
    assert len(worker.run([ASKED, ASKED], Watch())) == 2
    long = [changed(num_inference_steps=30, seeds=(seed,)) for seed in (1, 2)]
    left, stayed = worker.run(long, Watch(lambda: {1}))
    assert left is None and isinstance(stayed, JobResult) and stayed.batch.remainders[0].rows == (1,)
    _test_batches_within_a_step(worker, image)
    worker.close()


def _test_batches_within_a_step(worker: ProcessWorker, image: Image.Image) -> None:
    """Other batches are computed while one waits for an answer to its step, and change nothing of it."""
    other = changed(seeds=(5,), num_inference_steps=2)
    between: list[Any] = []

    def go_between() -> set[int]:
        between.extend(worker.run([other], Watch()))
        return {0}

    (made,) = worker.run([ASKED], Watch(go_between))
    (alone,) = worker.run([other], Watch())
    assert isinstance(made, JobResult) and made.items == [image]
    assert isinstance(alone, JobResult) and [each.items for each in between] == [alone.items]

    def kill() -> set[int]:
        os.kill(worker._process.pid or 0, signal.SIGKILL)
        return {0}

    def be_killed_between() -> set[int]:
        with pytest.raises(BatchFailed, match="SIGKILL"):
            worker.run([other], Watch(kill))
        return {0}

    with pytest.raises(Disturbed):
        worker.run([ASKED], Watch(be_killed_between))


def test_models_that_cannot_be_opened_are_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="'nothing'"):
        _ = ProcessWorker([Source("a", "nothing")], "cpu", "fp32").models
    with pytest.raises(ValueError, match="called a"):
        ProcessWorker([Source("a", "postcards"), Source("a", "postcards")])
    with pytest.raises(ValueError, match="no model"):
        open_models([])


def test_a_folder_is_called_by_its_last_part(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    assert Source.parse(str(folder)) == Source("mine", str(folder))
    assert Source.parse(f"a={folder}") == Source("a", str(folder))
    beside = tmp_path / "lr=0.1"
    beside.mkdir()
    assert Source.parse(str(beside)) == Source("lr=0.1", str(beside))
    assert Source.parse(f"best={beside}") == Source("best", str(beside))
    assert Source.parse("postcards") == Source("postcards", "postcards")
    assert Source.parse("shi-labs/versatile-diffusion").name == "shi-labs/versatile-diffusion"
