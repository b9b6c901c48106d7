import copy
import re
from collections.abc import Iterator

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from tests.parity import golden
from versatile_diffusion.checkpoints import diffuser_layouts
from versatile_diffusion.checkpoints.keys import KeyTable, to_ours
from versatile_diffusion.diffuser import (
    ContextTokens,
    ConvolutionalLayers,
    Diffuser,
    DiffuserConfig,
    FullyConnectedLayers,
    Plan,
)
from versatile_diffusion.kernels import linear, packing, winograd

NAMES = {"current": "diffuser", "legacy": "diffuser.legacy"}
EPS = sorted(name for name in golden.read("diffuser").tensors if name.startswith("eps."))
DDIM10 = sorted(name for name in golden.read("diffuser").tensors if name.startswith("ddim10."))
GUIDANCE_SCALE = 7.5


def config() -> DiffuserConfig:
    sizes = golden.read("diffuser").config["config"]
    return DiffuserConfig(
        model_channels=sizes["model_channels"],
        channel_mult=tuple(sizes["channel_mult"]),
        num_res_blocks=tuple(sizes["num_res_blocks"]),
        with_context=tuple(sizes["with_attn"]),
        num_heads=sizes["num_heads"],
    )


def build() -> Diffuser:
    sizes = golden.read("diffuser").config["config"]

    def image(plan: Plan) -> ConvolutionalLayers:
        return ConvolutionalLayers(plan, sizes["latent_channels"])

    def text(plan: Plan) -> FullyConnectedLayers:
        return FullyConnectedLayers(plan, sizes["text_latent_dim"], positions=sizes["second_dim"][0])

    width = sizes["context_dim"]
    return Diffuser(config(), {"image": image, "text": text}, {"image": width, "text": width}).eval()


@pytest.fixture(scope="module", params=NAMES)
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def diffuser(layout: str) -> Diffuser:
    files, diffuser = golden.read("diffuser").config, build()
    keys, table = {
        "current": (files["keys"], diffuser_layouts.official),
        "legacy": (files["legacy_keys"], diffuser_layouts.legacy),
    }[layout]
    keymap: KeyTable = table(diffuser.plan)
    diffuser.load_state_dict(to_ours(keymap, golden.weights(keys, files["seed"])))
    return diffuser


def mixture(name: str) -> tuple[str, dict[str, float]]:
    """ "eps.image_from_text0.66_image0.34" -> "image", {"text": 0.66, "image": 0.34}."""
    output, _, contexts = name.split(".", 1)[1].removesuffix(".cfg7.5").partition("_from_")
    parts = [re.fullmatch(r"([a-z]+)([\d.]*)", part) for part in contexts.split("_")]
    return output, {part[1]: float(part[2] or 1) for part in parts if part}


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "packed"])
def ready(request: pytest.FixtureRequest, diffuser: Diffuser) -> Iterator[Diffuser]:
    """Also with weights of any size laid out, and pictures of any size by Winograd's algorithm."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (linear, packing):
            patch.setattr(module, "LARGE", 0)
        patch.setattr(winograd, "MANY", 0)
        if request.param:
            diffuser = copy.deepcopy(diffuser)
            packing.pack(diffuser)
            kinds = {type(layer) for layer in diffuser.modules()}
            assert kinds >= {packing.PackedLinear, packing.PackedConv2d, packing.WinogradConv2d}
        yield diffuser


@pytest.mark.parametrize("name", EPS)
@torch.inference_mode()
def test_golden_noise_prediction(ready: Diffuser, layout: str, name: str):
    inputs, expected = golden.read("diffuser").tensors, golden.read(NAMES[layout]).tensors[name]
    output, weights = mixture(name)
    contexts = [ContextTokens(modality, inputs[f"c.{modality}"], weight) for modality, weight in weights.items()]
    actual = ready(inputs[f"x.{output}"], inputs["timesteps"], output, contexts)
    assert golden.relative_error(actual, expected) <= 1e-4


def scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
    )


def unconditional(inputs: dict[str, Tensor], modality: str) -> Tensor:
    return inputs["u.text"] if modality == "text" else torch.zeros_like(inputs[f"c.{modality}"])


@pytest.mark.parametrize("name", DDIM10)
@pytest.mark.parametrize("layout", ["current"], indirect=True, scope="module")
@torch.inference_mode()
def test_golden_trajectory(ready: Diffuser, name: str):
    inputs = golden.read("diffuser").tensors
    output, weights = mixture(name)
    contexts = [
        ContextTokens(modality, torch.cat([unconditional(inputs, modality), inputs[f"c.{modality}"]]), weight)
        for modality, weight in weights.items()
    ]
    ddim, x = scheduler(), inputs[f"x.{output}"]
    ddim.set_timesteps(10)
    for t in ddim.timesteps:
        without, given = ready(torch.cat([x, x]), t.expand(2 * len(x)), output, contexts).chunk(2)
        x = ddim.step(without + GUIDANCE_SCALE * (given - without), int(t), x, return_dict=False)[0]
    assert golden.relative_error(x, inputs[name]) <= 1e-3


def test_golden_schedule():
    expected, ddim = golden.read("diffuser").tensors, scheduler()
    ddim.set_timesteps(50)
    timesteps = ddim.timesteps.flip(0)
    assert timesteps.tolist() == expected["ddim_timesteps50"].tolist()
    alphas = ddim.alphas_cumprod[timesteps]
    previous = torch.cat([ddim.final_alpha_cumprod[None], alphas[:-1]])
    torch.testing.assert_close(alphas, expected["ddim_alphas50"])
    torch.testing.assert_close(previous, expected["ddim_alphas_prev50"])
