"""Passes that are computed at once: as one after the other."""

import threading
from collections.abc import Iterator

import pytest
import torch

from versatile_diffusion.training.concurrency import at_once

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_two_are_under_way_at_once_and_come_in_their_order() -> None:
    both = threading.Barrier(2, timeout=30)

    def compute(item: int) -> tuple[int, int]:
        both.wait()
        return item, torch.get_num_threads()

    assert list(at_once(compute, range(4), CPU)) == [(i, 1) for i in range(4)]
    assert torch.get_num_threads() == 2
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2]


@pytest.mark.parametrize(("items", "device"), [([1], CPU), ([1, 2], torch.device("cuda")), ([], CPU)])
def test_elsewhere_one_comes_after_the_other(items: list[int], device: torch.device) -> None:
    assert list(at_once(lambda _: threading.get_ident(), items, device)) == [threading.get_ident()] * len(items)


def test_errors_arrive() -> None:
    with pytest.raises(ZeroDivisionError):
        list(at_once(lambda item: 1 // item, [1, 0], CPU))
    assert torch.get_num_threads() == 2
