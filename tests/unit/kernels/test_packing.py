"""A pipeline whose weights are laid out for the CPU does all that it did."""

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from tests.conftest import CAPTIONS
from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.bench.process import status
from versatile_diffusion.kernels import linear, packing
from versatile_diffusion.kernels.packing import PackedLayer
from versatile_diffusion.kernels.quantization import is_quantized
from versatile_diffusion.pipeline.lora import add_lora, save_lora

Pipe = VersatileDiffusionPipeline


@pytest.fixture(autouse=True)
def everything_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of any size are packed."""
    for module in (linear, packing):
        monkeypatch.setattr(module, "LARGE", 0)


@pytest.fixture
def packed(session_pipe: Pipe) -> Pipe:
    pipe = copy.deepcopy(session_pipe)
    pipe.pack()
    return pipe


def made(pipe: Pipe) -> list[Tensor]:
    options: dict[str, Any] = {"num_inference_steps": 2, "output_type": "latent"}
    return [
        pipe.generate(to, [Context("text", CAPTIONS[0])], generator=Generator().manual_seed(0), **options).latents
        for to in ("image", "text")
    ]


def has_packed(module: nn.Module) -> bool:
    return any(isinstance(layer, PackedLayer) for layer in module.modules())


def require_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


def test_it_makes_and_saves_the_same(packed: Pipe, session_pipe: Pipe, tmp_path: Path) -> None:
    assert has_packed(packed.diffuser) and packed.diffuser.dtype == torch.float32
    require_same(made(packed), made(session_pipe))
    packed.save_pretrained(tmp_path)
    saved = Pipe.from_pretrained(tmp_path, torch_dtype=torch.float32)
    for mine, other in ((saved.diffuser, session_pipe.diffuser), (saved.modalities, session_pipe.modalities)):
        state, original = mine.state_dict(), other.state_dict()
        assert state.keys() == original.keys()
        assert all(torch.equal(state[key], tensor) for key, tensor in original.items())


@pytest.mark.parametrize(
    ("change", "kept"), [(Pipe.unpack, False), (copy.deepcopy, True), (lambda pipe: pipe.to("cpu"), True)]
)
def test_it_makes_the_same_after(change: Callable[[Pipe], Any], kept: bool, packed: Pipe, session_pipe: Pipe) -> None:
    changed = change(packed) or packed
    parts = (changed.diffuser, *changed.modalities.values())
    assert [has_packed(part) for part in parts] == [kept] * 3
    require_same(made(changed), made(session_pipe))


def test_brought_back_it_is_packed_anew(packed: Pipe, session_pipe: Pipe) -> None:
    packed.to(torch.float64).to(torch.float32)
    require_same(made(packed), made(session_pipe))
    packed.pack()
    layers = [layer for layer in packed.diffuser.modules() if isinstance(layer, PackedLayer)]
    assert layers and all(layer.is_packed for layer in layers)
    require_same(made(packed), made(session_pipe))


def test_loras_quantizing_and_compiling_unpack(packed: Pipe, session_pipe: Pipe, tmp_path: Path) -> None:
    add_lora(packed.diffuser)
    assert not has_packed(packed.diffuser)
    packed.pack()
    assert has_packed(packed.diffuser)
    require_same(made(packed), made(session_pipe))  # a LoRA that has learnt nothing
    save_lora(packed.diffuser, tmp_path / "lora")
    packed.fuse_lora()
    require_same(made(packed), made(session_pipe))
    packed.unload_lora()
    packed.pack()
    packed.quantize()
    assert is_quantized(packed.diffuser) and not has_packed(packed.diffuser)
    packed.pack()
    made(packed)


def test_an_unpacked_model_is_trained_as_before(packed: Pipe) -> None:
    packed.unpack()
    packed.diffuser.train()
    assert all(parameter.requires_grad for parameter in packed.diffuser.parameters())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_of_the_weights_as_they_were_stays_in_memory() -> None:
    layers = [nn.Linear(1024, 1024 + 64 * (i % 7)) for i in range(40)]
    model = nn.Sequential(*layers)
    before = status("RssAnon")
    packing.pack(model)
    grown = status("RssAnon") - before
    assert grown < sum(layer.weight.nbytes for layer in model if isinstance(layer, PackedLayer)) / 20
