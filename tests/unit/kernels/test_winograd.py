"""3×3 convolutions by other ways give what PyTorch's give."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import conv2d

from versatile_diffusion.kernels import winograd
from versatile_diffusion.kernels.packing import WinogradConv2d

sizes = st.integers(1, 11)
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def drawn(images: int, channels: int, height: int, width: int, outputs: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(images + 10 * channels + 100 * height + 1000 * width + outputs)
    shapes = (images, channels, height, width), (outputs, channels, 3, 3), (outputs,)
    x, weight, bias = (torch.randn(shape, generator=generator) for shape in shapes)
    return x, weight / (3 * channels**0.5), bias


def require_near(ours: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Numbers are about 1, and so are their sums."""
    exact = conv2d(x.double(), weight.double(), None if bias is None else bias.double(), padding=1)
    torch.testing.assert_close(ours, exact.float(), atol=1e-4, rtol=0)


@given(
    images=st.integers(0, 5),
    channels=sizes,
    height=sizes,
    width=sizes,
    outputs=sizes,
    biased=st.booleans(),
    layout=st.sampled_from(LAYOUTS),
    at_once=st.tuples(st.integers(1, 9), st.integers(1, 4)),
)
@torch.no_grad()
def test_winograd(
    images: int,
    channels: int,
    height: int,
    width: int,
    outputs: int,
    biased: bool,
    layout: torch.memory_format,
    at_once: tuple[int, int],
) -> None:
    x, weight, some = drawn(images, channels, height, width, outputs)
    bias = some if biased else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "_MOST_TILES", at_once[0])
        patch.setattr(winograd, "_KERNELS_BYTES", at_once[1] * 4 * 36 * channels)
        ours = winograd.convolve(x.contiguous(memory_format=layout), weight.contiguous(memory_format=layout), bias)
    require_near(ours, x, weight, bias)
    assert ours.is_contiguous(memory_format=torch.channels_last) or height % 4 or width % 4


@torch.no_grad()
def test_as_exact_as_float32_where_channels_are_many() -> None:
    x, weight, bias = drawn(2, 640, 32, 32, 64)
    exact = conv2d(x.double(), weight.double(), bias.double(), padding=1)
    errors = [
        float((made - exact).norm() / exact.norm())
        for made in (conv2d(x, weight, bias, padding=1), winograd.convolve(x, weight, bias))
    ]
    assert errors[1] < 4 * max(errors[0], 1e-6)


def test_the_number_of_tiles_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = WinogradConv2d(nn.Conv2d(2, 3, 3, padding=1))
    asked: list[int] = []
    original = winograd.convolve

    def counted(x: Tensor, *options: Tensor) -> Tensor:
        asked.append(winograd.count_tiles(x))
        return original(x, *options)

    monkeypatch.setattr(winograd, "convolve", counted)
    with torch.no_grad():
        for side in (4, 12, 13, 16):
            x, *_ = drawn(1, 2, side, side, 3)
            require_near(layer(x), x, layer.dense(), layer.bias)
    assert asked == [16, 16]


def test_what_is_kept_serves_any_mode_and_thread() -> None:
    inputs = [drawn(2, 6, 9 + i, 9, 8) for i in range(6)]
    with torch.inference_mode():
        winograd.convolve(*inputs[-1])
    with torch.no_grad(), ThreadPoolExecutor(3) as workers:
        alone = [winograd.convolve(*given) for given in inputs]
        beside = list(workers.map(lambda given: winograd.convolve(*given), inputs))
    for given_, mine, other in zip(inputs, alone, beside, strict=True):
        require_near(mine, *given_)
        assert torch.equal(mine, other)
