import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from torch import Generator, Tensor, nn
from typer.testing import CliRunner

from tests.conftest import CAPTIONS
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.bench.memory import saved_by_int8
from versatile_diffusion.checkpoints import CheckpointError
from versatile_diffusion.cli import app
from versatile_diffusion.kernels.quantization import is_quantized, stored_bytes
from versatile_diffusion.pipeline.lora import add_lora, save_lora

Pipe = VersatileDiffusionPipeline
PROMPT = "a watercolor of a red lighthouse by the sea"


@pytest.fixture
def own(session_pipe: Pipe) -> Pipe:
    return copy.deepcopy(session_pipe)


@pytest.fixture
def int8(own: Pipe) -> Pipe:
    own.quantize("int8")
    return own


def latents(pipe: Pipe, prompt: str = CAPTIONS[0], **options: Any) -> Tensor:
    seed = Generator().manual_seed(0)
    return pipe.text_to_image(prompt, generator=seed, **{"num_inference_steps": 2, **options}).latents


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def linear_weights(module: nn.Module) -> list[Any]:
    return [layer.weight for layer in module.modules() if isinstance(layer, nn.Linear)]


def test_outputs_of_the_bundled_model_are_near(bundled: Pipe) -> None:
    pipe = copy.deepcopy(bundled)
    pipe.set_progress_bar_config(disable=True)
    expected, tokens = latents(pipe, PROMPT, num_inference_steps=10), pipe.encode_context("text", PROMPT)
    other = latents(pipe, "pixel art of a tree in the snow", num_inference_steps=10)
    pipe.quantize("int8")
    assert 0 < distance(pipe.encode_context("text", PROMPT), tokens) < 0.02
    found = latents(pipe, PROMPT, num_inference_steps=10)
    assert 0 < distance(found, expected) < 0.04 < distance(other, expected) / 10


def test_the_weights_of_linear_layers_are_int8(session_pipe: Pipe, int8: Pipe) -> None:
    parts = {"diffuser": int8.diffuser} | {
        name: modality.get_submodule("context_encoder") for name, modality in int8.modalities.items()
    }
    assert list(parts) == ["diffuser", "image", "text"]
    for module in parts.values():
        weights = linear_weights(module)
        assert weights and all(weight.qdata.dtype == torch.int8 for weight in weights)
        assert all(weight.qdata.shape == weight.shape and weight.qdata.nbytes == weight.numel() for weight in weights)
    saved = sum(4 * w.numel() - w.numel() - 5 * len(w) for w in linear_weights(session_pipe.diffuser))
    assert stored_bytes(int8.diffuser) == stored_bytes(session_pipe.diffuser) - saved  # a row has a scale and a zero
    assert saved_by_int8(session_pipe.diffuser) == saved
    assert is_quantized(int8.diffuser) and not is_quantized(session_pipe.diffuser)


def test_autoencoders_stay_as_they_are(session_pipe: Pipe, int8: Pipe) -> None:
    latent = torch.randn(1, 4, 16, 16, generator=Generator().manual_seed(1))
    assert torch.equal(int8.decode("image", latent, "pt"), session_pipe.decode("image", latent, "pt"))
    assert torch.equal(int8.encode("text", CAPTIONS[1]), session_pipe.encode("text", CAPTIONS[1]))


@pytest.mark.parametrize("way", ["model", "sequential", "group"])
def test_int8_can_be_offloaded(int8: Pipe, way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def layers(module: nn.Module, device: torch.device, **options: Any) -> nn.Module:
        return cpu_offload(module, torch.device("cpu"), **options)  # "cpu:0" copies parameters into plain tensors

    expected = latents(int8)
    monkeypatch.setattr("accelerate.cpu_offload", layers)
    {
        "model": lambda: int8.enable_model_cpu_offload(device="cpu"),
        "sequential": lambda: int8.enable_sequential_cpu_offload(device="cpu"),
        "group": lambda: int8.enable_group_offload("cpu"),
    }[way]()
    assert torch.equal(latents(int8), expected)


def test_int8_is_not_saved_and_takes_no_loras(own: Pipe, tmp_path: Path) -> None:
    add_lora(own.diffuser, 2)
    save_lora(own.diffuser, tmp_path / "lora")
    with pytest.raises(ValueError, match="holds LoRAs: call `fuse_and_unload_lora`"):
        own.quantize()
    own.fuse_and_unload_lora()
    own.quantize()
    with pytest.raises(ValueError, match="int8, which takes no LoRAs"):
        own.load_lora(tmp_path / "lora")
    with pytest.raises(CheckpointError, match="The weights are int8: save the model before"):
        own.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists() and latents(own).isfinite().all()


def test_what_cannot_be_quantized_is_explained(own: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="stored as int8, got 'int3'"):
        own.quantize("int3")
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ImportError, match=r"pip install 'versatile-diffusion\[int8\]'"):
        own.quantize()


def test_commands_take_int8(session_pipe: Pipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    session_pipe.save_pretrained("model")
    words = ["text-to-image", CAPTIONS[0], "--model", "model", "--steps", "2", "--seed", "0", "--dtype", "fp32"]
    calls: list[str] = []
    monkeypatch.setattr(Pipe, "quantize", lambda self, weights: calls.append(weights))
    result = CliRunner().invoke(app, [*words, "--weights", "int8", "--json", "--device", "cpu"])
    assert result.exit_code == 0 and calls == ["int8"], result.output
    assert json.loads(result.stdout)[0]["seed"] == 0
