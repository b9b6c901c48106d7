"""What OpenVINO computes is what PyTorch computes, in every flow."""

import copy
from dataclasses import replace

import openvino_telemetry
import pytest
import torch
from torch import Generator, Tensor, nn

from versatile_diffusion import VersatileDiffusionPipeline, kernels
from versatile_diffusion.diffuser import ContextTokens, Diffuser
from versatile_diffusion.flows import Flow
from versatile_diffusion.model_presets import build, tiny
from versatile_diffusion.pipeline import openvino
from versatile_diffusion.pipeline.openvino import OpenVinoForward

Pipe = VersatileDiffusionPipeline
WEIGHTS = {"text": 0.3, "image": 0.7}
CALLS = [
    ("image", ("text",)),
    ("image", ("image",)),
    ("text", ("text",)),
    ("text", ("image",)),
    ("image", ("text", "image")),
]


@pytest.fixture(scope="module")
def diffuser() -> Diffuser:
    """All four flows, of one level, since a network takes as long to be traced as it has blocks."""
    preset = tiny()
    shallow = replace(preset.diffuser, channel_mult=(1,), num_res_blocks=(1,), with_context=(True,))
    flows = [Flow(output=output, context=context) for output in WEIGHTS for context in WEIGHTS]
    return build(replace(preset, diffuser=shallow), flows).diffuser.eval()


@pytest.fixture(scope="module")
def converted(diffuser: Diffuser) -> Diffuser:
    return run_by_openvino(copy.deepcopy(diffuser))


def run_by_openvino(diffuser: Diffuser) -> Diffuser:
    kernels.run_elsewhere(diffuser, OpenVinoForward(diffuser, {"INFERENCE_NUM_THREADS": 1}))
    return diffuser


@torch.inference_mode()
def noise(diffuser: Diffuser, output: str, modalities: tuple[str, ...], count: int = 1, size: int = 8) -> Tensor:
    """What is predicted for as many latents, each with and without its contexts."""
    generator = Generator().manual_seed(count)
    shape = (4, size, 8) if output == "image" else (tiny().text.latent_dim,)
    latents = torch.randn(count, *shape, generator=generator)
    dims = diffuser.config["context_dims"]
    contexts = [
        ContextTokens(name, torch.randn(2 * count, 5, dims[name], generator=generator), WEIGHTS[name])
        for name in modalities
    ]
    parts = [ContextTokens(c.modality, c.tokens.to(diffuser.dtype), c.weight) for c in contexts]
    return diffuser(latents.to(diffuser.dtype), torch.full((count,), 500), output, parts)


@pytest.mark.parametrize("output, modalities", CALLS)
def test_all_flows_are_as_they_were(
    diffuser: Diffuser, converted: Diffuser, output: str, modalities: tuple[str, ...]
) -> None:
    for count, size in ((1, 8), (3, 12)):
        found, expected = (noise(each, output, modalities, count, size) for each in (converted, diffuser))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_way_to_call_it_is_converted_once(converted: Diffuser) -> None:
    noise(converted, "image", ("text",))
    forward = converted.forward
    assert isinstance(forward, OpenVinoForward)
    known = dict(forward._converted)
    noise(converted, "image", ("text",), 3, 12)
    assert forward._converted == known


def test_nothing_is_reported_to_its_maker(diffuser: Diffuser, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[object] = []
    monkeypatch.setattr(openvino_telemetry.Telemetry, "__init__", lambda *given, **named: reported.append(named))
    noise(run_by_openvino(copy.deepcopy(diffuser)), "text", ("text",))
    assert reported == []


def test_bfloat16_is_near(diffuser: Diffuser) -> None:
    rounded = copy.deepcopy(diffuser)
    nn.Module.bfloat16(rounded)
    found, expected = noise(run_by_openvino(rounded), "image", ("text",)), noise(diffuser, "image", ("text",))
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).norm() < 0.05 * expected.norm()


def test_a_pipeline_is_compiled_until_its_weights_are_needed(session_pipe: Pipe) -> None:
    pipe = Pipe(copy.deepcopy(session_pipe.diffuser), session_pipe.scheduler, dict(session_pipe.modalities.items()))  # pyright: ignore
    pipe.compile(backend="openvino", INFERENCE_NUM_THREADS=1)
    pipe.pack()  # which leaves it alone
    assert isinstance(pipe.diffuser.forward, OpenVinoForward)
    pipe.unpack()
    assert not isinstance(pipe.diffuser.forward, OpenVinoForward)


def test_what_it_cannot_run_is_told(diffuser: Diffuser, monkeypatch: pytest.MonkeyPatch) -> None:
    half = copy.deepcopy(diffuser)
    nn.Module.half(half)
    with pytest.raises(ValueError, match=r"float32 and bfloat16 on the CPU, not in torch\.float16"):
        OpenVinoForward(half, {})
    monkeypatch.setattr(openvino, "OPENVINO", "openvino_is_not_there")
    with pytest.raises(ImportError, match=r"pip install 'versatile-diffusion\[openvino"):
        OpenVinoForward(diffuser, {})
