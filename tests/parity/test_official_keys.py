import pytest
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL
from torch import Tensor

from tests.parity import golden
from versatile_diffusion.checkpoints import diffuser_layouts, encoder_keys
from versatile_diffusion.checkpoints.keys import KeyTable, to_ours, to_theirs
from versatile_diffusion.diffuser import ConvolutionalLayers, Diffuser, DiffuserConfig, FullyConnectedLayers, Plan
from versatile_diffusion.modalities.optimus import Optimus
from versatile_diffusion.presets import vd_four_flow

PARAMETERS = 2_566_318_852
LAYOUTS = {
    "vd-four-flow-v1-0.pth (current layout; diffuser part)": diffuser_layouts.official,
    "vd-four-flow-v1-0-deprecated.pth (legacy layout; diffuser part)": diffuser_layouts.legacy,
}


def meta(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def shapes(tensors: dict[str, Tensor]) -> dict[str, list[int]]:
    return {key: list(tensor.shape) for key, tensor in tensors.items()}


def official_keys() -> dict[str, dict[str, list[int]]]:
    return golden.read("official_keys").config


@pytest.fixture(scope="module")
def diffuser() -> Diffuser:
    def image(plan: Plan) -> ConvolutionalLayers:
        return ConvolutionalLayers(plan, latent_channels=4)

    def text(plan: Plan) -> FullyConnectedLayers:
        return FullyConnectedLayers(plan, latent_dim=768)

    with init_empty_weights():
        return Diffuser(DiffuserConfig(), {"image": image, "text": text}, {"image": 768, "text": 768})


def test_golden_full_size_diffuser_has_the_published_number_of_parameters(diffuser: Diffuser):
    assert sum(parameter.numel() for parameter in diffuser.parameters()) == PARAMETERS


@pytest.mark.parametrize("name", LAYOUTS)
def test_golden_official_diffuser_becomes_ours_and_back(name: str, diffuser: Diffuser):
    theirs = official_keys()[name]
    table: KeyTable = LAYOUTS[name](diffuser.plan)
    ours = to_ours(table, meta(theirs))
    assert shapes(ours) == shapes(diffuser.state_dict())
    assert shapes(to_theirs(table, ours)) == theirs


def test_golden_official_kl_autoencoder_becomes_ours_and_back():
    theirs = official_keys()["kl-f8.pth"]
    with init_empty_weights():
        autoencoder = AutoencoderKL.from_config(vd_four_flow().image.autoencoder)
    table = encoder_keys.kl_autoencoder(
        autoencoder.config["block_out_channels"], autoencoder.config["layers_per_block"]
    )
    ours = to_ours(table, meta(theirs))
    assert shapes(ours) == shapes(autoencoder.state_dict())
    assert shapes(to_theirs(table, ours)) == theirs


def test_golden_official_optimus_becomes_ours_and_back():
    theirs = official_keys()["optimus-vae.pth"]
    with init_empty_weights(include_buffers=False):
        autoencoder = Optimus(**vd_four_flow().text.autoencoder)
    table = encoder_keys.optimus(autoencoder.state_dict())
    ours = to_ours(table, meta(theirs), left_out=encoder_keys.OPTIMUS_LEFT_OUT)
    assert shapes(ours) == shapes(autoencoder.state_dict())
    back = to_theirs(table, ours)
    assert shapes(back | encoder_keys.optimus_derived(back)) == theirs
