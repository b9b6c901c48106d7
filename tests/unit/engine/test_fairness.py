"""One request does not stop the engine for others: many clients of a worker whose time is simulated."""

from collections.abc import Sequence
from statistics import median
from threading import Event

import pytest

from tests.unit.engine.simulation import LARGE, LONG, SMALL, Client, Clock, Simulation, TimedWorker
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.jobs import Job, Status
from versatile_diffusion.engine.limits import EngineLimits
from versatile_diffusion.engine.refusals import TooLong
from versatile_diffusion.engine.results import Reason

Waits = Sequence[Sequence[float]]
ENOUGH = 4  # jobs of a small client


def mixed(keys: bool) -> list[Client]:
    """Fifty clients, a tenth of which asks for the largest that is allowed."""
    small = [Client(f"small {number}" if keys else "", SMALL) for number in range(45)]
    return [*small, *(Client(f"large {number}" if keys else "", LARGE, outputs=8) for number in range(5))]


def small_median(waits: Waits) -> float:
    return median(wait for client in waits[:45] for wait in client)


@pytest.mark.parametrize("keys", [False, True])
def test_small_requests_wait_twice_as_long_at_most_beside_the_largest(keys: bool) -> None:
    def enough(waits: Waits) -> bool:
        return all(len(client) >= ENOUGH for client in waits[:45])

    clients = mixed(keys)
    alone, beside = Simulation(clients[:45], enough), Simulation(clients, enough)
    alone.run()
    beside.run()
    assert small_median(beside.waits) <= 2 * small_median(alone.waits)
    longest = max(wait for client in beside.waits[:45] for wait in client)
    assert longest <= 4 * max(wait for client in alone.waits for wait in client)
    assert {status for client in beside.statuses for status in client} == {Status.SUCCEEDED}


def test_a_long_job_ends_in_four_times_the_time_that_it_needs_once_it_has_begun() -> None:
    def ended(waits: Waits) -> bool:
        return bool(waits[-1])

    long, small = Client("", LONG, outputs=8), [Client("", SMALL) for _ in range(16)]
    alone, beside = Simulation([long], ended), Simulation([*small, long], ended)
    alone.run()
    beside.run()
    before = max(client[0] for client in beside.waits[:16])  # those that came before it
    assert 2 * alone.waits[0][0] < beside.waits[-1][0] <= 4.5 * alone.waits[0][0] + before
    assert all(len(client) > 5 for client in beside.waits[:16])


def test_keys_have_equal_shares_however_many_jobs_they_send() -> None:
    def enough(waits: Waits) -> bool:
        return sum(map(len, waits)) >= 100

    one, many = Client("one", SMALL, outputs=8), [Client("many", SMALL, outputs=8) for _ in range(16)]
    both = Simulation([one, *many], enough)
    both.run()
    assert len(both.waits[0]) == pytest.approx(50, abs=3)


def test_the_time_of_others_is_not_that_of_a_job() -> None:
    """The long one needs 3.6 s of computing, and would be given up at 4 s if the time of others counted."""

    def ended(waits: Waits) -> bool:
        return bool(waits[-1])

    beside = Simulation([*(Client("", SMALL) for _ in range(16)), Client("", LONG, outputs=8)], ended)
    beside.run(timeout=4)
    assert beside.waits[-1][0] > 7 and beside.statuses[-1] == [Status.SUCCEEDED]


def finished(job: Job) -> Job:
    done = Event()
    with job.heard(lambda: done.set() if job.state.is_final else None):
        assert job.state.is_final or done.wait(60)
    return job


def test_a_job_that_takes_longer_than_any_may_is_refused_once_that_is_known() -> None:
    clock = Clock()
    worker = TimedWorker(clock)
    worker.go.set()
    engine = Engine(worker, EngineLimits(timeout=10), clock=clock)
    late = finished(engine.submit(Client("", LARGE, outputs=8).request)).state.failure
    assert late is not None and late.reason is Reason.TIMEOUT
    with pytest.raises(TooLong, match="may take 10 s: ask for fewer steps or outputs, or for a smaller size"):
        engine.submit(Client("", LARGE, outputs=8).request)
    assert finished(engine.submit(Client("", SMALL).request)).state.status is Status.SUCCEEDED
    engine.close()
