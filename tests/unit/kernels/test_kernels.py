"""Kernels for the CPU: the same numbers as PyTorch's own, another way."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from versatile_diffusion.kernels import attention as kernel
from versatile_diffusion.kernels import linear as module
from versatile_diffusion.kernels import packing, rows
from versatile_diffusion.kernels.linear import LinearConv1D, lay_out, linear, replace_layers
from versatile_diffusion.kernels.packing import PackedLayer, pack, unpack


@pytest.fixture(autouse=True, scope="module")
def everything_pays() -> Iterator[None]:
    """Weights of any size go the other way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LARGE", 0)
        patch.setattr(packing, "LARGE", 0)
        yield


@given(batch=st.lists(st.integers(0, 5), min_size=0, max_size=3), inputs=st.integers(1, 9), outputs=st.integers(1, 9))
def test_gives_what_linear_gives(batch: list[int], inputs: int, outputs: int) -> None:
    rows, weight = torch.randn(*batch, inputs), torch.randn(outputs, inputs)
    with torch.no_grad():
        torch.testing.assert_close(linear(rows, weight), functional.linear(rows, weight))


def test_large_weights_go_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[torch.Size] = []
    monkeypatch.setattr(module, "LARGE", 12)
    original = module._ONEDNN

    def counted(rows: Tensor, weight: Tensor, *options: Any) -> Tensor:
        called.append(weight.shape)
        return original(rows, weight, *options)

    monkeypatch.setattr(module, "_ONEDNN", counted)
    with torch.no_grad():
        for outputs in (3, 4):
            linear(torch.randn(2, 3), torch.randn(outputs, 3))
        linear(torch.randn(2, 3).bfloat16(), torch.randn(4, 3).bfloat16())
    linear(torch.randn(2, 3), torch.randn(4, 3))
    assert called == [(4, 3)]


@pytest.mark.parametrize("rows", [1, 4])
@torch.no_grad()
def test_layers_give_what_those_of_transformers_give_before_and_after_they_are_laid_out(rows: int) -> None:
    theirs = torch.nn.Sequential(Conv1D(7, 5), torch.nn.Tanh(), Conv1D(3, 7))
    ours = copy.deepcopy(theirs)
    replace_layers(ours)
    x = torch.randn(rows, 1, 5)
    torch.testing.assert_close(ours(x), theirs(x))
    lay_out(ours)
    torch.testing.assert_close(ours(x), theirs(x))
    layer = ours[0]
    assert isinstance(layer, LinearConv1D) and layer.weight.t().is_contiguous()
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ours.load_state_dict(theirs.state_dict())


def test_gradients_pass_through_laid_out_layers() -> None:
    theirs = torch.nn.Sequential(Conv1D(7, 5))
    ours = copy.deepcopy(theirs)
    replace_layers(ours)
    lay_out(ours)
    x = torch.randn(4, 5)
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


@pytest.mark.parametrize("queries, keys", [(300, 300), (7, 33), (513, 40)])
@pytest.mark.parametrize("spread", [1, 6])
@torch.no_grad()
def test_attention_is_as_near_as_numbers_of_its_kind_can_be(
    queries: int, keys: int, spread: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "_lacks_tiles", lambda *_: True)
    monkeypatch.setattr(kernel, "MANY", 1)
    q, k, v = (torch.randn(2, n, 3, 20).transpose(1, 2) for n in (queries, keys, keys))
    q = q * spread
    exact = functional.scaled_dot_product_attention(q, k, v)
    near = kernel.attention(q.bfloat16(), k.bfloat16(), v.bfloat16())
    theirs = functional.scaled_dot_product_attention(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert near.shape == exact.shape and near.dtype == torch.bfloat16
    assert (near.float() - exact).norm() < 2 * (theirs.float() - exact).norm()


def test_attention_has_its_gradients_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_lacks_tiles", lambda *_: True)
    ours, theirs = ([torch.linspace(-i, i, 80).view(1, 2, 5, 8) for i in (1, 2, 3)] for _ in range(2))
    for tensors in (ours, theirs):
        for tensor in tensors:
            tensor.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        attended = kernel.attention(*(tensor.bfloat16() for tensor in ours))
    assert attended.dtype == torch.bfloat16
    attended.float().square().sum().backward()
    functional.scaled_dot_product_attention(theirs[0], theirs[1], theirs[2]).square().sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=0.1, rtol=0.05)


def test_attention_elsewhere_is_that_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "MANY", 1)
    q, k, v = torch.randn(3, 2, 3, 5, 8)
    assert torch.equal(kernel.attention(q, k, v), functional.scaled_dot_product_attention(q, k, v))


@given(batch=st.lists(st.integers(0, 9), min_size=1, max_size=3), cached=st.integers(1, 900), width=st.integers(1, 5))
def test_a_function_of_rows_gives_the_same_by_some_rows_at_a_time(batch: list[int], cached: int, width: int) -> None:
    seen: list[int] = []

    def function(x: Tensor) -> Tensor:
        seen.append(x.shape[:-1].numel())
        return x.cumsum(-1)

    x = torch.randn(*batch, 3)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(rows, "CACHED", cached)
        patch.setattr(rows, "_FEWEST", 2)
        assert torch.equal(rows.by_rows(function, x, width), x.cumsum(-1))
    assert sum(seen) == x.shape[:-1].numel()
    assert max(seen) <= max(2, cached // (4 * width))
    assert torch.equal(rows.by_rows(function, x, width), x.cumsum(-1)) and seen[-1] == sum(seen[:-1])


@torch.no_grad()
def test_attention_finds_what_stands_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_lacks_tiles", lambda *_: True)
    monkeypatch.setattr(kernel, "MANY", 1)
    q, k, v = (torch.randn(1, 1, 40, 16, dtype=torch.bfloat16) for _ in range(3))
    q[..., 0], k[..., 5, 0] = 40.0, 40.0  # no sample of every 16th key has it
    torch.testing.assert_close(kernel.attention(q, k, v), v[..., 5:6, :].expand_as(v))


def layers(dtype: torch.dtype = torch.float32) -> torch.nn.Sequential:
    torch.manual_seed(0)
    strided, pointwise = torch.nn.Conv2d(8, 8, 3, stride=2, padding=1), torch.nn.Conv2d(8, 4, 1, bias=False)
    grouped = torch.nn.Conv2d(4, 8, 3, groups=2, padding=(1, 2), dilation=2)
    convolutions = (torch.nn.Conv2d(3, 8, 3, padding=1), strided, torch.nn.SiLU(), pointwise, grouped)
    pool = (torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    return (
        torch.nn.Sequential(*convolutions, *pool, torch.nn.Linear(32, 24), torch.nn.Linear(24, 5, bias=False))
        .to(dtype)
        .eval()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_packed_layers_give_what_they_gave_and_are_saved_as_before(dtype: torch.dtype) -> None:
    theirs, ours = layers(dtype), layers(dtype)
    pack(ours)
    packed = 5 if dtype == torch.float32 else 6 if packs(dtype) else 0  # pointwise ones of float32 stay
    assert sum(isinstance(layer, PackedLayer) for layer in ours) == packed
    for side in (8, 12, 32):
        x = torch.randn(2, 3, side, side, dtype=dtype)
        torch.testing.assert_close(ours(x), theirs(x))
    saved = ours.state_dict()
    assert saved.keys() == theirs.state_dict().keys()
    assert all(torch.equal(saved[key], tensor) for key, tensor in theirs.state_dict().items())


def packs(dtype: torch.dtype) -> bool:
    return dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


@torch.no_grad()
def test_packed_layers_can_be_brought_elsewhere() -> None:
    ours, x = layers(), torch.randn(2, 3, 8, 8)
    pack(ours)
    ours.to("cpu", torch.float32)
    assert all(layer.is_packed for layer in ours if isinstance(layer, PackedLayer))
    ours.to(torch.float64)
    assert not any(layer.is_packed for layer in ours if isinstance(layer, PackedLayer))
    torch.testing.assert_close(ours(x.double()), layers().double()(x.double()))


def test_gradients_pass_through_packed_layers() -> None:
    ours, theirs = layers(), layers()
    pack(ours)
    mine, other = (torch.ones(2, 3, 8, 8, requires_grad=True) for _ in range(2))
    ours(mine).square().sum().backward()
    theirs(other).square().sum().backward()
    torch.testing.assert_close(mine.grad, other.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_packed_layers_are_unpacked_to_be_trained(dtype: torch.dtype) -> None:
    ours, theirs = layers(), layers()
    ours[3].requires_grad_(False)
    pack(ours)
    with pytest.raises(RuntimeError, match="packed: call `unpack` before it is trained"):
        ours.train()
    unpack(ours.to(dtype))
    for mine, other in zip(ours.train(), theirs.to(dtype), strict=True):
        assert type(mine) is type(other) and mine.training
        for (name, a), (same, b) in zip(mine.named_parameters(), other.named_parameters(), strict=True):
            assert name == same and torch.equal(a, b) and a.requires_grad == (mine is not ours[3])


def test_small_convolutions_are_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LARGE", 100)
    model = torch.nn.Sequential(torch.nn.Conv2d(4, 2, 3), torch.nn.Conv2d(4, 3, 3), torch.nn.Linear(2, 2))
    pack(model)
    assert [isinstance(layer, PackedLayer) for layer in model] == [False, True, True]


def test_layers_with_loras_or_unusual_padding_or_numbers_are_not_packed() -> None:
    same, half = torch.nn.Conv2d(2, 2, 3, padding="same"), torch.nn.Linear(2, 2).half()
    model = torch.nn.ModuleDict({"base_layer": torch.nn.Conv2d(2, 2, 3), "same": same, "float16": half})
    pack(model)
    assert not any(isinstance(layer, PackedLayer) for layer in model.values())
