"""What is computed at once: as one after the other."""

import copy
import threading
from collections.abc import Iterator
from typing import cast

import pytest
import torch
from torch import Generator, Tensor
from torch.utils.flop_counter import FlopCounterMode

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.diffuser import ContextTokens
from versatile_diffusion.kernels import optimize
from versatile_diffusion.kernels.concurrency import at_once
from versatile_diffusion.modalities.base import Modality

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def thread(_: object) -> int:
    return threading.get_ident()


def threads_of_a_new_one() -> int:
    found: list[int] = []
    new = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    new.start()
    new.join()
    return found[0]


def test_two_are_under_way_at_once_and_come_in_their_order() -> None:
    both = threading.Barrier(2, timeout=30)

    def compute(item: int) -> int:
        both.wait()
        return item

    for _ in range(2):
        assert list(at_once(compute, range(4), CPU)) == list(range(4))
    assert torch.get_num_threads() == threads_of_a_new_one() == 2


def test_workers_of_workers_leave_all_threads_to_others() -> None:
    torch.set_num_threads(4)

    def compute(_: int) -> tuple[int, list[int]]:
        own = list(at_once(lambda _: torch.get_num_threads(), range(2), CPU))
        return torch.get_num_threads(), own

    assert list(at_once(compute, range(2), CPU)) == [(2, [1, 1])] * 2
    assert torch.get_num_threads() == threads_of_a_new_one() == 4


def test_workers_do_not_share_their_share() -> None:
    def compute(_: int) -> set[int]:
        return set(at_once(thread, range(4), CPU)) | {threading.get_ident()}

    within = list(at_once(compute, range(2), CPU))
    assert [len(threads) for threads in within] == [1, 1]


def test_workers_compute_as_the_thread_that_asks() -> None:
    def compute(_: int) -> tuple[bool, bool]:
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    with torch.inference_mode():
        assert list(at_once(compute, range(2), CPU)) == [(True, False)] * 2
    with torch.no_grad():
        assert list(at_once(compute, range(2), CPU)) == [(False, False)] * 2
    assert list(at_once(compute, range(2), CPU)) == [(False, True)] * 2


@pytest.mark.parametrize(("items", "device"), [([1], CPU), ([1, 2], torch.device("cuda")), ([], CPU)])
def test_elsewhere_one_comes_after_the_other(items: list[int], device: torch.device) -> None:
    assert list(at_once(thread, items, device)) == [threading.get_ident()] * len(items)


def test_nothing_escapes_what_watches_the_thread() -> None:
    with FlopCounterMode(display=False) as counter:
        list(at_once(lambda _: torch.ones(2, 3) @ torch.ones(3, 5), range(4), CPU))
    assert counter.get_total_flops() == 4 * 2 * 2 * 3 * 5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = list(at_once(lambda _: torch.ones(2, 3) @ torch.ones(3, 5), range(4), CPU))
    assert {product.dtype for product in made} == {torch.bfloat16}


def test_errors_arrive() -> None:
    with pytest.raises(ZeroDivisionError):
        list(at_once(lambda item: 1 // item, [1, 0], CPU))
    assert list(at_once(lambda item: 1 // item, [1, 2], CPU)) == [1, 0]


def test_a_mixture_is_the_same_on_one_thread(session_pipe: VersatileDiffusionPipeline) -> None:
    modalities = cast("dict[str, Modality]", session_pipe.modalities)
    diffuser = copy.deepcopy(session_pipe.diffuser)
    optimize(diffuser)

    def predicted() -> Tensor:
        generator = Generator().manual_seed(0)
        latents = torch.randn(2, *modalities["image"].latent_shape(), generator=generator)
        contexts = [
            ContextTokens(name, torch.randn(2, 5, modalities[name].context_dim, generator=generator), weight)
            for name, weight in (("text", 0.3), ("image", 0.7))
        ]
        with torch.inference_mode():
            return diffuser(latents, torch.tensor([9, 9]), "image", contexts)

    by_two = predicted()
    torch.set_num_threads(1)
    torch.testing.assert_close(predicted(), by_two)
