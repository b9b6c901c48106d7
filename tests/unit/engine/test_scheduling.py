"""The policy alone: equal shares for owners, nobody waits for ever, nothing is lost, and a batch keeps its share."""

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from versatile_diffusion.engine.scheduling import KEPT, SHORTER, FairQueue, Progress

Ask = tuple[str, int, float]
"""The owner, a number and the seconds of a job."""

SECONDS = st.floats(0.01, 100)
BACKLOGS = st.dictionaries(st.sampled_from("abcde"), st.lists(SECONDS, min_size=1, max_size=12), min_size=1)


def queue_of(backlogs: dict[str, list[float]]) -> tuple[FairQueue[Ask], list[Ask]]:
    queue = FairQueue[Ask](lambda job: job[2])
    jobs = [(owner, number, seconds) for owner, all_of in backlogs.items() for number, seconds in enumerate(all_of)]
    for job in jobs:
        queue.add(job[0], job)
    return queue, jobs


def begin(queue: FairQueue[Ask]) -> Ask:
    """Computes the next job to its end."""
    found = queue.next()
    assert found is not None
    owner, job = found
    queue.begin(owner)
    assert queue.remove(owner, job)
    queue.charge(owner, job[2])
    return job


@given(BACKLOGS)
def test_every_job_is_computed_once_and_those_of_an_owner_in_their_order(backlogs: dict[str, list[float]]) -> None:
    queue, jobs = queue_of(backlogs)
    order = queue.order()
    assert len(queue) == len(jobs) and sorted(queue) == sorted(jobs)
    computed = [begin(queue) for _ in jobs]
    assert queue.next() is None and len(queue) == 0
    assert sorted(computed) == sorted(jobs) and computed == order
    for owner in backlogs:
        numbers = [number for one, number, _ in computed if one == owner]
        assert numbers == sorted(numbers)


@given(BACKLOGS)
def test_owners_who_wait_have_equal_shares(backlogs: dict[str, list[float]]) -> None:
    queue, _ = queue_of(backlogs)
    left = {owner: len(jobs) for owner, jobs in backlogs.items()}
    had = dict.fromkeys(backlogs, 0.0)
    while all(left.values()):
        owner, _, seconds = begin(queue)
        had[owner] += seconds
        left[owner] -= 1
        longest = {one: max(jobs) for one, jobs in backlogs.items()}
        for one in backlogs:
            assert had[owner] - had[one] <= longest[owner] + longest[one] + 1e-6


@given(st.lists(SECONDS, min_size=1, max_size=5), SECONDS)
def test_nobody_waits_for_ever(others: list[float], mine: float) -> None:
    """However many jobs others send, one begins when each of them has had as much as fits before it."""
    queue, numbers = FairQueue[Ask](lambda job: job[2]), count()

    def send(owner: str, seconds: float) -> None:
        queue.add(owner, (owner, next(numbers), seconds))

    names = {f"other {number}": seconds for number, seconds in enumerate(others)}
    for name, seconds in names.items():
        for _ in range(3):
            send(name, seconds)
    begin(queue)
    send("me", mine)
    waited = 0.0
    while (job := begin(queue))[0] != "me":
        waited += job[2]
        send(job[0], names[job[0]])
    assert waited <= 2 * sum(others)


def test_whoever_comes_back_has_saved_up_nothing() -> None:
    queue, _ = queue_of({"a": [1.0] * 20})
    for _ in range(10):
        begin(queue)
    for number in range(10):
        queue.add("b", ("b", number, 1.0))
    assert "".join(begin(queue)[0] for _ in range(8)).count("b") in (4, 5)


@given(st.lists(st.floats(0.01, 2), min_size=1, max_size=30), st.lists(SECONDS, min_size=1))
def test_a_batch_keeps_its_share_and_only_much_shorter_ones_go_in_between(
    steps: list[float], others: list[float]
) -> None:
    own = given = 0.0
    for number, step in enumerate(steps):
        own += step
        left = sum(steps[number + 1 :])
        queue, _ = queue_of({"me": others})
        while found := queue.next(Progress("me", own, given, left)):
            owner, job = found
            assert job[2] * SHORTER <= left + 1e-9
            assert own * KEPT >= own + given - 1e-6, "before the last one that goes in between"
            queue.remove(owner, job)
            given += job[2]


def test_between_owners_who_has_had_less_goes_first() -> None:
    queue, _ = queue_of({"a": [1.0], "b": [1.0]})
    running = Progress("c", own=10, given=0, left=100)
    queue.charge("c", 10)
    queue.charge("a", 11)
    assert queue.next(running) == ("b", ("b", 0, 1.0))
    queue.charge("b", 11)
    assert queue.next(running) is None and queue.next() is not None


def test_what_is_not_known_goes_never_in_between() -> None:
    queue, _ = queue_of({"a": [float("inf")]})
    assert queue.next(Progress("a", own=10, given=0, left=1000)) is None
    assert len(queue.order()) == 1
