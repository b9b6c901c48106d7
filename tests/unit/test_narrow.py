"""Products of a few rows: the same numbers, laid out another way."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from versatile_diffusion.narrow import FEW, NarrowConv1D, NarrowLinear, lay_out, narrow_linear, replace_layers


@given(batch=st.lists(st.integers(0, 5), min_size=0, max_size=3), inputs=st.integers(1, 9), outputs=st.integers(1, 9))
def test_gives_what_linear_gives(batch: list[int], inputs: int, outputs: int) -> None:
    rows, weight = torch.randn(*batch, inputs), torch.randn(outputs, inputs)
    torch.testing.assert_close(narrow_linear(rows, weight), linear(rows, weight))


@pytest.mark.parametrize("bias", [True, False])
@given(rows=st.integers(0, 6))
def test_a_linear_layer_by_another_name(bias: bool, rows: int) -> None:
    ours, theirs = NarrowLinear(5, 3, bias=bias), torch.nn.Linear(5, 3, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, rows, 5)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("rows", [1, FEW.start, FEW.stop - 1, FEW.stop])
def test_layers_give_what_those_of_transformers_give_before_and_after_they_are_laid_out(rows: int) -> None:
    theirs = torch.nn.Sequential(Conv1D(7, 5), torch.nn.Tanh(), Conv1D(3, 7))
    ours = copy.deepcopy(theirs)
    replace_layers(ours)
    x = torch.randn(rows, 1, 5)
    torch.testing.assert_close(ours(x), theirs(x))
    lay_out(ours)
    torch.testing.assert_close(ours(x), theirs(x))
    layer = ours[0]
    assert isinstance(layer, NarrowConv1D) and layer.weight.t().is_contiguous()
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
