"""Offloading on the CPU: weights that wait are not there, so what forgets to ask for them fails or gives NaN."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import CpuOffload
from PIL import Image
from torch import Tensor, nn

from tests.conftest import CAPTIONS
from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.kernels import linear, packing
from versatile_diffusion.kernels.packing import PackedLayer

Pipe = VersatileDiffusionPipeline
Enable = Callable[[Pipe, Path], None]

WAYS: dict[str, Enable] = {
    "model": lambda pipe, _: pipe.enable_model_cpu_offload(device="cpu"),
    "sequential": lambda pipe, _: pipe.enable_sequential_cpu_offload(device="cpu"),
    "group": lambda pipe, folder: pipe.enable_group_offload("cpu", offload_to_disk_path=str(folder)),
}


def away(module: nn.Module) -> bool:
    """Whether weights are not where they could be computed with."""
    return not all(tensor.isfinite().all() for tensor in module.parameters() if not tensor.is_meta)


@pytest.fixture(autouse=True)
def waiting_weights_are_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that accelerate moves as a whole hold NaN while they wait."""
    kept: dict[int, dict[str, Tensor]] = {}

    def put_away(self: CpuOffload, module: nn.Module) -> nn.Module:
        if not away(module):
            kept[id(module)] = {name: tensor.detach().clone() for name, tensor in module.named_parameters()}
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(torch.nan)
        return module

    def bring(self: CpuOffload, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self.prev_module_hook is not None:
            self.prev_module_hook.offload()
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(kept[id(module)][name])
        return args, kwargs

    def layers_offloaded(module: nn.Module, device: torch.device, **options: Any) -> nn.Module:
        return cpu_offload(module, torch.device("cpu"), **options)  # "cpu:0" copies parameters into plain tensors

    monkeypatch.setattr(accelerate, "cpu_offload", layers_offloaded)
    monkeypatch.setattr(CpuOffload, "init_hook", put_away)
    monkeypatch.setattr(CpuOffload, "pre_forward", bring)


@pytest.fixture
def everything_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of any size are packed."""
    for module in (linear, packing):
        monkeypatch.setattr(module, "LARGE", 0)


@pytest.fixture(params=WAYS)
def offloaded(request: pytest.FixtureRequest, session_pipe: Pipe, tmp_path: Path) -> Pipe:
    pipe = copy.deepcopy(session_pipe)
    WAYS[request.param](pipe, tmp_path)
    return pipe


def made(pipe: Pipe, picture: Image.Image) -> dict[str, Any]:
    """What every way through the pipeline gives, each asked for twice."""
    options: dict[str, Any] = {"num_inference_steps": 2, "output_type": "pt"}

    def seeded() -> dict[str, Any]:
        return options | {"generator": torch.Generator().manual_seed(0)}

    mask = torch.zeros(30, 40)
    mask[:20] = 1
    masked = Context("image", picture, mask=mask, weight=0.5)
    both = [Context("text", CAPTIONS[0], weight=0.5), masked]
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    ways: dict[str, Callable[[], Any]] = {
        "encode_context": lambda: pipe.encode_context("image", picture),
        "text_to_image": lambda: pipe.text_to_image(CAPTIONS[0], **seeded()).images,
        "encode": lambda: pipe.encode("text", CAPTIONS[1]),
        "decode": lambda: pipe.decode("image", latent, "pt"),
        "image_to_text": lambda: pipe.image_to_text(picture, **seeded()).texts,
        "variation": lambda: pipe.image_variation(picture, fidelity=0.5, **seeded()).images,
        "both": lambda: pipe.generate("image", both, **seeded()).images,
        "reconstruct": lambda: (
            pipe.reconstruct(
                pipe.encode_context("image", picture)[0], rank_by="image", num_outputs=2, seed=0, **options
            ).scores
        ),
    }
    return {f"{name} {i}": way() for i in range(2) for name, way in ways.items()}


def test_outputs_are_those_without(offloaded: Pipe, session_pipe: Pipe, picture: Image.Image) -> None:
    assert away(offloaded.modalities)
    expected, found = made(session_pipe, picture), made(offloaded, picture)
    for name, value in expected.items():
        if isinstance(value, Tensor):
            # not bit for bit: weights that came back from a file may lie otherwise in memory, and products round so
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)
        else:
            assert found[name] == value, name


def test_modalities_wait_while_the_diffuser_computes_and_afterwards(offloaded: Pipe) -> None:
    waiting: list[bool] = []

    def look(pipe: Pipe, step: int, *_: Any) -> None:
        waiting.append(away(pipe.modalities))

    offloaded.text_to_image(CAPTIONS[0], num_inference_steps=2, callback_on_step_end=look)
    assert waiting == [True, True] and away(offloaded.modalities)


def test_the_diffuser_waits_while_modalities_compute(session_pipe: Pipe) -> None:
    pipe = copy.deepcopy(session_pipe)
    pipe.enable_model_cpu_offload(device="cpu")
    waiting: list[bool] = []
    image: Any = pipe.modalities["image"]
    image.autoencoder.decoder.register_forward_pre_hook(lambda *_: waiting.append(away(pipe.diffuser)))
    pipe.text_to_image(CAPTIONS[0], num_inference_steps=1)
    assert waiting == [True]


@pytest.mark.parametrize("way", ["sequential", "group"])
def test_packed_layers_are_unpacked_to_be_moved(way: str, session_pipe: Pipe, tmp_path: Path, everything_pays: None):
    pipe = copy.deepcopy(session_pipe)
    pipe.pack()
    assert any(isinstance(layer, PackedLayer) for layer in pipe.diffuser.modules())
    WAYS[way](pipe, tmp_path)
    assert not any(isinstance(layer, PackedLayer) for layer in pipe.diffuser.modules())


def test_what_group_offload_cannot_do_is_refused(session_pipe: Pipe) -> None:
    pipe = copy.deepcopy(session_pipe)
    with pytest.raises(ValueError, match='take offload_type="leaf_level"'):
        pipe.enable_group_offload("cpu", offload_type="block_level")
    with pytest.raises(ValueError, match="load the model with one flow"):
        pipe.enable_group_offload("cpu", use_stream=True)
    pipe.enable_group_offload("cpu")
    with pytest.raises(ValueError, match=r"[Gg]roup offload"):
        pipe.enable_sequential_cpu_offload(device="cpu")
