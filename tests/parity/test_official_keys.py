from collections.abc import Callable

import pytest
import torch
from accelerate import init_empty_weights
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.parity import golden
from versatile_diffusion.checkpoints import diffuser_layouts, encoder_keys, sizes
from versatile_diffusion.checkpoints.keys import KeyTable, to_ours, to_theirs
from versatile_diffusion.checkpoints.tensors import LazyTensor
from versatile_diffusion.diffuser import ConvolutionalLayers, Diffuser, DiffuserConfig, FullyConnectedLayers, Plan
from versatile_diffusion.modalities.optimus import Optimus
from versatile_diffusion.model_presets import vd_four_flow

PARAMETERS = 2_566_318_852
Layout = Callable[[Plan], KeyTable]
LAYOUTS: dict[str, Layout] = {
    "vd-four-flow-v1-0.pth (current layout; diffuser part)": diffuser_layouts.official,
    "vd-four-flow-v1-0-deprecated.pth (legacy layout; diffuser part)": diffuser_layouts.legacy,
}


def meta(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def shapes(tensors: dict[str, Tensor]) -> dict[str, list[int]]:
    return {key: list(tensor.shape) for key, tensor in tensors.items()}


def official_keys() -> dict[str, dict[str, list[int]]]:
    return golden.read("official_keys").config


def lazy(shapes: dict[str, list[int]]) -> dict[str, LazyTensor]:
    return {key: LazyTensor.of(tensor) for key, tensor in meta(shapes).items()}


def two_stream_diffuser(config: DiffuserConfig, width: int) -> Diffuser:
    def image(plan: Plan) -> ConvolutionalLayers:
        return ConvolutionalLayers(plan, latent_channels=4)

    def text(plan: Plan) -> FullyConnectedLayers:
        return FullyConnectedLayers(plan, latent_dim=width)

    return Diffuser(config, {"image": image, "text": text}, {"image": width, "text": width})


@pytest.fixture(scope="module")
def diffuser() -> Diffuser:
    with init_empty_weights():
        return two_stream_diffuser(DiffuserConfig(), 768)


def test_golden_full_size_diffuser_has_the_published_number_of_parameters(diffuser: Diffuser):
    assert sum(parameter.numel() for parameter in diffuser.parameters()) == PARAMETERS


@pytest.mark.parametrize("name", LAYOUTS)
def test_golden_official_diffuser_becomes_ours_and_back(name: str, diffuser: Diffuser):
    theirs = official_keys()[name]
    table = LAYOUTS[name](diffuser.plan)
    ours = to_ours(table, meta(theirs))
    assert shapes(ours) == shapes(diffuser.state_dict())
    assert shapes(to_theirs(table, ours)) == theirs


def test_golden_official_kl_autoencoder_becomes_ours_and_back():
    theirs = official_keys()["kl-f8.pth"]
    config = vd_four_flow().image.autoencoder
    with init_empty_weights():
        autoencoder = AutoencoderKL(**config)
    table = encoder_keys.kl_autoencoder(config["block_out_channels"], config["layers_per_block"])
    ours = to_ours(table, meta(theirs))
    assert shapes(ours) == shapes(autoencoder.state_dict())
    assert shapes(to_theirs(table, ours)) == theirs


def test_golden_official_optimus_becomes_ours_and_back():
    theirs = official_keys()["optimus-vae.pth"]
    config = vd_four_flow().text.autoencoder
    assert config is not None
    with init_empty_weights(include_buffers=False):
        autoencoder = Optimus(**config)
    table = encoder_keys.optimus(autoencoder.state_dict())
    ours = to_ours(table, meta(theirs), left_out=encoder_keys.OPTIMUS_LEFT_OUT)
    assert shapes(ours) == shapes(autoencoder.state_dict())
    back = to_theirs(table, ours)
    assert shapes(back | encoder_keys.optimus_derived(back)) == theirs


@pytest.mark.parametrize("name", LAYOUTS)
def test_golden_sizes_of_the_official_diffuser_are_read_off_its_shapes(name: str):
    stored = lazy(official_keys()[name])
    config = sizes.diffuser(stored, LAYOUTS[name], name)
    assert config == DiffuserConfig()
    assert sizes.text_stream(stored, config) == (768, 4)


def test_golden_sizes_of_the_official_autoencoders_are_read_off_their_shapes():
    preset, keys = vd_four_flow(), official_keys()
    kl = sizes.kl_autoencoder(lazy(keys["kl-f8.pth"]), "kl-f8.pth")
    assert kl.items() <= preset.image.autoencoder.items()
    optimus, expected = sizes.optimus(lazy(keys["optimus-vae.pth"]), "optimus-vae.pth"), preset.text.autoencoder
    assert expected is not None
    assert optimus["latent_dim"] == expected["latent_dim"]
    for part in ("bert", "gpt2"):
        assert expected[part].keys() - optimus[part].keys() <= {"initializer_range"}
        assert all(optimus[part][name] == expected[part].get(name, optimus[part][name]) for name in optimus[part])


@settings(max_examples=5, deadline=None)
@given(
    levels=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2), st.booleans()), min_size=1, max_size=2),
    layout=st.sampled_from(list(LAYOUTS.values())),
)
def test_tables_are_total_and_one_to_one_for_any_sizes(levels: list[tuple[int, int, bool]], layout: Layout):
    mults, layers, attends = zip(*levels, strict=True)
    with init_empty_weights():
        diffuser = two_stream_diffuser(DiffuserConfig(32, mults, layers, attends, num_heads=4), 24)
    table = layout(diffuser.plan)
    ours = diffuser.state_dict()
    assert table.keys() == ours.keys()
    theirs = to_theirs(table, ours)
    assert len(theirs) == len(ours)
    assert shapes(to_ours(table, theirs)) == shapes(ours)
    stored = lazy(shapes(theirs))
    assert layout(Plan.of(sizes.diffuser(stored, layout, "a file"))) == table
