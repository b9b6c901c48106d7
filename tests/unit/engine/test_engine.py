"""The engine: outputs that do not depend on their batch, cancelling, limits, and jobs that fail alone."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.serving.running import Gate
from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.engine.computing import compute
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.jobs import Job, Status
from versatile_diffusion.engine.limits import EngineLimits
from versatile_diffusion.engine.refusals import Busy, Closed
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.results import Failure, JobResult, Reason
from versatile_diffusion.engine.workers import Disturbed, LocalWorker, Watch

TENT = Context("text", "a red tent in the meadow")
SEA = Context("text", "a blue lighthouse by the sea")
Open = Callable[..., Engine]


class Held(LocalWorker):
    """A worker that begins when it is let."""

    def __init__(self, pipes: Mapping[str, VersatileDiffusionPipeline]) -> None:
        super().__init__(pipes)
        self.go = Event()

    def run(self, requests: Sequence[JobRequest], watch: Watch) -> list[JobResult | Failure | None]:
        assert self.go.wait(60)
        return super().run(requests, watch)


@pytest.fixture
def open_engine() -> Iterator[Open]:
    engines: list[Engine] = []

    def opened(worker: Any, **limits: Any) -> Engine:
        engines.append(Engine(worker, EngineLimits(**limits)))
        return engines[-1]

    yield opened
    for engine in engines:
        engine._worker.close()
        engine.close()


def ask(*contexts: Context, to: str = "image", seeds: Sequence[int] = (0,), **options: Any) -> JobRequest:
    return JobRequest.of("tiny", to, contexts or (TENT,), tuple(seeds), **{"num_inference_steps": 2, **options})


def longer(asked: JobRequest) -> JobRequest:
    return replace(asked, request=asked.request.replaced(num_inference_steps=4))


def finished(job: Job) -> Job:
    done = Event()
    with job.heard(lambda: done.set() if job.state.is_final else None):
        assert job.state.is_final or done.wait(60)
    return job


def always(step: int, steps: int, previews: Mapping[int, Any]) -> Collection[int]:
    return range(8)


@contextmanager
def rows_of(pipe: VersatileDiffusionPipeline) -> Iterator[list[int]]:
    """How many rows each call of the diffuser has."""
    rows: list[int] = []
    hook = pipe.diffuser.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    yield rows
    hook.remove()


# ---- computing ----


def pairs(picture: Image.Image) -> dict[str, list[JobRequest]]:
    """Requests of one kind, for each sort of conditioning."""
    mask = Image.new("L", picture.size, "white")
    mask.paste(0, (0, 0, 10, 30))
    tokens = [torch.randn(1, 5, 24, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    seen = Context("image", picture, weight=0.4, focus=0.2)
    hidden = Context("image", picture.rotate(90), mask=mask.rotate(90), weight=0.4, focus=0.2)
    both = {"negative": (SEA,), "eta": 0.5, "guidance_interval": (0.1, 0.9), "seeds": (1, 2)}
    begun = {"start": picture, "strength": 0.6, "height": 32, "width": 64, "num_inference_steps": 4}
    given = [Context("image", embedding=tokens[i], unconditional=tokens[i + 2]) for i in (0, 1)]
    return {
        "texts": [ask(TENT, to="text", seeds=(1, 2)), ask(SEA, to="text", seeds=(3,))],
        "mixtures": [ask(TENT, seen, **both), ask(SEA, hidden, **both | {"negative": (TENT,), "seeds": (7,)})],
        "starts": [ask(TENT, **begun), ask(SEA, **begun | {"start": picture.rotate(90), "seeds": (5,)})],
        "embeddings": [ask(given[0], colors_of=picture), ask(given[1], colors_of=picture.rotate(90), seeds=(2,))],
        "schedulers": [ask(TENT, scheduler="pndm"), ask(SEA, scheduler="pndm", seeds=(3, 4), preview_every=1)],
    }


@pytest.mark.parametrize("name", ["texts", "mixtures", "starts", "embeddings", "schedulers"])
def test_a_batch_equals_its_requests_computed_one_by_one(
    pipe: VersatileDiffusionPipeline, picture: Image.Image, name: str
) -> None:
    requests, own = pairs(picture)[name], pipe.scheduler
    assert len({request.kind for request in requests}) == 1
    batch = compute(pipe, requests, always)
    for request, together in zip(requests, batch, strict=True):
        (alone,) = compute(pipe, [request], always)
        assert isinstance(alone, JobResult) and isinstance(together, JobResult)
        assert len(alone.items) == len(together.items) == len(request.seeds)
        for one, other in zip(alone.items, together.items, strict=True):
            if isinstance(one, str):
                assert one == other
            else:
                assert isinstance(one, Image.Image) and isinstance(other, Image.Image)
                assert one.size == other.size == ((64, 32) if name == "starts" else (32, 32))
                assert np.abs(np.array(one, int) - np.array(other, int)).max() <= 1
    assert pipe.scheduler is own


def test_it_is_what_the_pipeline_makes(pipe: VersatileDiffusionPipeline, picture: Image.Image) -> None:
    contexts = (TENT, Context("image", picture, weight=0.5, focus=0.9))
    (made,) = compute(pipe, [ask(*contexts, seeds=(4, 5))], always)
    seeds = [torch.Generator().manual_seed(seed) for seed in (4, 5)]
    expected = pipe.generate("image", contexts, num_outputs=2, num_inference_steps=2, generator=seeds).images
    assert isinstance(made, JobResult)
    for one, other in zip(made.items, expected, strict=True):
        assert np.abs(np.array(one, int) - np.array(other, int)).max() <= 1


def test_data_that_cannot_be_read_fails_alone_and_notes_stay_with_their_request(
    pipe: VersatileDiffusionPipeline,
) -> None:
    strange, wrong = Context("text", "a zebra"), Context("text", 5)
    unknown, unread, known = compute(pipe, [ask(strange), ask(wrong), ask(TENT)], always)
    assert isinstance(unknown, JobResult) and "zebra" in unknown.notes[0]
    assert isinstance(unread, Failure) and unread.reason is Reason.INVALID and "must be a str" in unread.message
    assert isinstance(known, JobResult) and known.notes == ()


@pytest.mark.parametrize("name", ["texts", "mixtures", "starts", "embeddings", "schedulers"])
def test_what_stays_of_a_batch_is_as_if_nothing_had_left(
    pipe: VersatileDiffusionPipeline, picture: Image.Image, name: str
) -> None:
    asked = pairs(picture)[name]
    with rows_of(pipe) as seen:
        _, made = compute(pipe, [longer(each) for each in asked], lambda *_: {1})
    (alone,) = compute(pipe, [longer(asked[1])], always)
    assert isinstance(alone, JobResult) and isinstance(made, JobResult)
    assert seen[0] > seen[-1] == len(asked[1].seeds)
    for one, other in zip(alone.items, made.items, strict=True):
        if isinstance(one, str):
            assert one == other
        else:
            assert np.abs(np.array(one, int) - np.array(other, int)).max() <= 1


# ---- the engine ----


def test_jobs_of_one_kind_are_computed_together_in_their_order(open_engine: Open) -> None:
    gate = Gate()
    engine = open_engine(gate, batch=3)
    first = engine.submit(ask())
    assert gate.running.wait(30)
    jobs = [
        engine.submit(ask(seeds=(seed,), to=to)) for seed, to in enumerate(["image", "text", "image", "image", "image"])
    ]
    assert [engine.position(job) for job in [first, *jobs]] == [0, 1, 2, 3, 4, 5]
    gate.go.set()
    assert [finished(job).state.status for job in jobs] == [Status.SUCCEEDED] * 5
    assert gate.batches == [[0], [0, 2, 3], [1], [4]]


def test_a_pipeline_computes_what_is_asked(
    open_engine: Open, pipe: VersatileDiffusionPipeline, picture: Image.Image
) -> None:
    worker = Held({"tiny": pipe})
    engine = open_engine(worker)
    heard: list[tuple[int, int, bool]] = []
    job = engine.submit(ask(num_inference_steps=4, preview_every=2))
    with job.heard(lambda: heard.append((job.state.step, job.state.steps, job.state.preview is not None))):
        worker.go.set()
        finished(job)
    assert job.state.result is not None
    (image,) = job.state.result.items
    assert isinstance(image, Image.Image) and image.size == (32, 32)
    assert (2, 4, True) in heard and (4, 4, True) in heard
    text = finished(engine.submit(ask(Context("image", picture), to="text")))
    assert text.state.result is not None and isinstance(text.state.result.items[0], str)


def test_a_job_that_is_cancelled_while_it_waits_is_never_computed(open_engine: Open) -> None:
    gate = Gate()
    engine = open_engine(gate)
    first = engine.submit(ask(to="text"))
    assert gate.running.wait(30)
    kept, waiting = (engine.submit(ask(seeds=(i,))) for i in range(2))
    assert engine.cancel(waiting) and engine.position(waiting) == 0 and not engine.cancel(waiting)
    gate.go.set()
    assert {finished(job).state.status for job in (first, kept)} == {Status.SUCCEEDED}
    assert waiting.state.status is Status.CANCELLED and gate.batches == [[0], [0]]


def test_those_behind_a_job_that_is_cancelled_hear_that_they_moved_up(open_engine: Open) -> None:
    gate = Gate()
    engine = open_engine(gate)
    engine.submit(ask(to="text"))
    assert gate.running.wait(30)
    leaving, behind = (engine.submit(ask(seeds=(i,))) for i in range(2))
    places: list[int] = []
    with behind.heard(lambda: places.append(engine.position(behind))):
        engine.cancel(leaving)
        assert places == [1]
    gate.go.set()


def test_a_cancelled_job_leaves_its_batch_at_the_next_step(open_engine: Open, pipe: VersatileDiffusionPipeline) -> None:
    worker = Held({"tiny": pipe})
    engine = open_engine(worker)
    engine.submit(ask(to="text", num_inference_steps=1))
    kept, dropped = (engine.submit(ask(seeds=(i, i + 5), num_inference_steps=4)) for i in range(2))
    with rows_of(pipe) as rows, kept.heard(lambda: kept.state.step == 2 and engine.cancel(dropped)):
        worker.go.set()
        finished(kept)
    assert rows == [1, 4, 4, 2, 2] and kept.state.status is Status.SUCCEEDED
    assert dropped.state.status is Status.CANCELLED and dropped.state.result is None


def test_a_job_that_is_cancelled_alone_stops_at_its_next_step(
    open_engine: Open, pipe: VersatileDiffusionPipeline
) -> None:
    worker = Held({"tiny": pipe})
    engine = open_engine(worker)
    with rows_of(pipe) as rows:
        job = engine.submit(ask(num_inference_steps=9, preview_every=2))
        with job.heard(lambda: job.state.step == 2 and engine.cancel(job)):
            worker.go.set()
            finished(job)
        finished(engine.submit(ask(num_inference_steps=1)))  # after the thread has left the first
    assert len(rows) == 3


def test_a_job_that_takes_too_long_fails(open_engine: Open) -> None:
    gate = Gate(steps=10**9)
    engine = open_engine(gate, timeout=0.05)
    gate.go.set()
    job = finished(engine.submit(ask()))
    assert job.state.failure is not None and job.state.failure.reason is Reason.TIMEOUT
    assert "longer than 0.05 s" in job.state.failure.message


def test_a_crash_fails_its_job_alone_and_tells_no_secrets(open_engine: Open) -> None:
    gate = Gate()
    engine = open_engine(gate)
    engine.submit(ask(to="text"))
    assert gate.running.wait(30)
    jobs = [engine.submit(ask(seeds=(seed,))) for seed in (1, 13, 2)]
    gate.go.set()
    states = [finished(job).state for job in jobs]
    assert [state.status for state in states] == [Status.SUCCEEDED, Status.FAILED, Status.SUCCEEDED]
    failure = states[1].failure
    assert failure is not None and failure.reason is Reason.CRASHED and "secret" not in failure.message
    assert gate.batches[1:] == [[1, 13, 2], [1], [13], [2]]


def test_a_batch_that_another_one_disturbed_is_computed_again(open_engine: Open) -> None:
    class DisturbedOnce(Gate):
        def run(self, requests: Sequence[JobRequest], watch: Watch) -> list[JobResult | Failure | None]:
            if not self.batches:
                self.batches.append([-1])
                raise Disturbed
            return super().run(requests, watch)

    gate = DisturbedOnce()
    gate.go.set()
    job = finished(open_engine(gate).submit(ask(seeds=(4,))))
    assert job.state.status is Status.SUCCEEDED and gate.batches == [[-1], [4]]


def test_a_short_job_goes_between_the_steps_of_a_long_one(open_engine: Open, pipe: VersatileDiffusionPipeline) -> None:
    worker = Held({"tiny": pipe})
    engine = open_engine(worker)
    long = engine.submit(ask(seeds=(1, 2), num_inference_steps=40))
    short, text = engine.submit(ask(seeds=(3,), num_inference_steps=1)), engine.submit(ask(to="text"))
    worker.go.set()
    assert all(finished(job).state.status is Status.SUCCEEDED for job in (long, short, text))
    ended = [job.state.finished or 0.0 for job in (short, long)]
    assert ended == sorted(ended)
    (long_alone,) = compute(pipe, [ask(seeds=(1, 2), num_inference_steps=40)], always)
    (short_alone,) = compute(pipe, [ask(seeds=(3,), num_inference_steps=1)], always)
    for job, expected in ((long, long_alone), (short, short_alone)):
        assert isinstance(expected, JobResult) and job.state.result is not None
        assert job.state.result.items == expected.items


def test_the_queue_is_bounded(open_engine: Open) -> None:
    gate = Gate()
    engine = open_engine(gate, queue=2)
    engine.submit(ask())
    assert gate.running.wait(30)
    waiting = [engine.submit(ask(), owner="me") for _ in range(2)]
    with pytest.raises(Busy) as full:
        engine.submit(ask())
    assert full.value.retry_after >= 1 and engine.unfinished("me") == 2
    gate.go.set()
    assert all(finished(job).state.status is Status.SUCCEEDED for job in waiting)
    with pytest.raises(KeyError):
        engine.submit(JobRequest.of("../tiny", "image", (TENT,), (0,)))


def test_finished_jobs_are_forgotten(open_engine: Open) -> None:
    gate = Gate()
    gate.go.set()
    engine = open_engine(gate, keep_jobs=2)
    jobs = [finished(engine.submit(ask())) for _ in range(4)]
    assert [engine.find(job.id) is not None for job in jobs] == [False, False, True, True]
    hasty = open_engine(gate, keep_seconds=0)
    assert hasty.find(finished(hasty.submit(ask())).id) is None


def test_finished_jobs_hold_so_many_bytes(open_engine: Open, picture: Image.Image) -> None:
    gate = Gate()
    gate.go.set()
    engine = open_engine(gate, keep_bytes=2 * 8 * 8 * 3)  # two of its pictures
    jobs = [finished(engine.submit(ask(seeds=seeds))) for seeds in ((0,), (1, 2), (3,), (4,))]
    assert [engine.find(job.id) is not None for job in jobs] == [False, False, True, True]
    large = finished(engine.submit(ask(seeds=range(3))))
    assert [engine.find(job.id) is not None for job in [*jobs, large]] == [False] * 4 + [True]
    seen = finished(engine.submit(ask(Context("image", picture))))
    assert seen.size > 8 * 8 * 3  # its recipe holds the picture
    engine.close()
    assert list(engine._jobs) == [seen.id]  # though nobody has asked since


def test_closing_fails_what_is_not_finished(open_engine: Open) -> None:
    gate = Gate()
    engine = open_engine(gate)
    jobs = [engine.submit(ask(to=to)) for to in ("image", "text")]
    assert gate.running.wait(30)
    gate.go.set()
    engine.close()
    assert all(job.state.is_final for job in jobs) and not engine.is_alive
    with pytest.raises(Closed, match="being stopped"):
        engine.submit(ask())
