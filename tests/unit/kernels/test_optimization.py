"""What makes a network quicker is put in place from outside, and taken away without a trace."""

import copy
import pickle
from collections import OrderedDict
from typing import cast

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from tests.unit.training.diffuser_runs import four_flow_task
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.diffuser import ContextTokens, Diffuser
from versatile_diffusion.kernels import linear, norms, optimize, packing, restore
from versatile_diffusion.kernels import rows as rows_kernel
from versatile_diffusion.kernels.attention import attention
from versatile_diffusion.kernels.norms import SmallGroupNorm
from versatile_diffusion.kernels.optimization import map_at_once
from versatile_diffusion.kernels.packing import PackedLayer
from versatile_diffusion.kernels.rows import FeedForwardByRows
from versatile_diffusion.modalities.base import Modality
from versatile_diffusion.training.loop.task import TrainingConfig
from versatile_diffusion.training.loop.trainer import Trainer


@pytest.fixture(autouse=True)
def everything_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of any size are packed, few rows are computed at a time, and groups of any width are normalised."""
    for module in (linear, packing):
        monkeypatch.setattr(module, "LARGE", 0)
    monkeypatch.setattr(norms, "MOST_CHANNELS", 1024)
    monkeypatch.setattr(rows_kernel, "CACHED", 1)
    monkeypatch.setattr(rows_kernel, "_FEWEST", 3)


@pytest.fixture
def diffuser(session_pipe: VersatileDiffusionPipeline) -> Diffuser:
    return copy.deepcopy(session_pipe.diffuser)


@pytest.fixture
def predicted(session_pipe: VersatileDiffusionPipeline):
    modalities = cast("dict[str, Modality]", session_pipe.modalities)
    generator = Generator().manual_seed(0)
    latents = torch.randn(2, *modalities["image"].latent_shape(), generator=generator)
    contexts = [
        ContextTokens(name, torch.randn(2, 5, modalities[name].context_dim, generator=generator), weight)
        for name, weight in (("text", 0.3), ("image", 0.7))
    ]

    @torch.no_grad()
    def predict(diffuser: Diffuser) -> Tensor:
        return diffuser(latents, torch.tensor([9, 500]), "image", contexts)

    return predict


def kinds(network: nn.Module) -> list[type[nn.Module]]:
    return [type(part) for part in network.modules()]


def held(network: nn.Module) -> set[object]:
    """Functions that layers hold as attributes."""
    functions = (scaled_dot_product_attention, attention, map, map_at_once)
    return {value for part in network.modules() for value in vars(part).values() if any(value is f for f in functions)}


def test_all_is_replaced_and_comes_back(diffuser: Diffuser, predicted) -> None:
    before, state, expected = kinds(diffuser), copy.deepcopy(diffuser.state_dict()), predicted(diffuser)
    assert held(diffuser) == {scaled_dot_product_attention, map}
    optimize(diffuser)
    assert held(diffuser) == {attention, map_at_once}
    parts = [part for part in diffuser.modules() if isinstance(part, PackedLayer | FeedForwardByRows | SmallGroupNorm)]
    assert {type(part) for part in parts} >= {FeedForwardByRows, SmallGroupNorm}
    assert any(isinstance(part, PackedLayer) for part in parts) and nn.GroupNorm not in kinds(diffuser)
    assert list(diffuser.state_dict()) == list(state)
    torch.testing.assert_close(predicted(diffuser), expected, atol=1e-4, rtol=1e-4)
    optimize(diffuser)  # again, which changes nothing
    torch.testing.assert_close(predicted(diffuser), expected, atol=1e-4, rtol=1e-4)
    restore(diffuser)
    assert kinds(diffuser) == before and held(diffuser) == {scaled_dot_product_attention, map}
    assert all(torch.equal(tensor, state[key]) for key, tensor in diffuser.state_dict().items())
    assert torch.equal(predicted(diffuser), expected)


def test_copies_and_pickles_are_as_quick(diffuser: Diffuser, predicted) -> None:
    optimize(diffuser)
    expected, by_rows = predicted(diffuser), kinds(diffuser).count(FeedForwardByRows)
    for other in (copy.deepcopy(diffuser), pickle.loads(pickle.dumps(diffuser))):
        assert held(other) == {attention, map_at_once} and kinds(other).count(FeedForwardByRows) == by_rows > 0
        assert torch.equal(predicted(other), expected)
        restore(other)
        assert FeedForwardByRows in kinds(diffuser), "what a copy loses, the original keeps"


def test_what_is_to_be_trained_keeps_its_weights(diffuser: Diffuser) -> None:
    before = kinds(diffuser)
    optimize(diffuser, training=True)
    assert held(diffuser) == {attention, map}
    assert kinds(diffuser) == [SmallGroupNorm if kind is nn.GroupNorm else kind for kind in before]
    diffuser.train()
    assert all(parameter.requires_grad for parameter in diffuser.parameters())


def test_the_trainer_computes_attention_as_is_quicker_to_train(tmp_path) -> None:
    task = four_flow_task()
    trainer = Trainer(task, TrainingConfig(2, 2, 1e-3), tmp_path)
    assert attention in held(trainer.model)


def test_a_compiled_network_stays_as_it_is(diffuser: Diffuser) -> None:
    diffuser.compile_repeated_blocks(backend="eager")
    before = kinds(diffuser)
    optimize(diffuser)
    assert kinds(diffuser) == before and held(diffuser) == {scaled_dot_product_attention, map}


def feed_forward(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict((str(i), layer) for i, layer in enumerate(layers)))


@pytest.mark.parametrize(
    "layer",
    [
        feed_forward(nn.Linear(4, 8), nn.Flatten(1), nn.Linear(24, 4)),  # joins rows
        feed_forward(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 5)),  # as wide as nothing that went in
        feed_forward(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 4)),
        feed_forward(nn.Linear(4, 8), nn.SiLU()),
        feed_forward(nn.Linear(4, 8, device="meta"), nn.SiLU(), nn.Linear(8, 4, device="meta")),
    ],
)
def test_what_is_no_feed_forward_layer_of_the_cpu_is_not_computed_by_rows(layer: nn.Sequential) -> None:
    network = nn.ModuleDict({"layer": layer})
    rows_kernel.compute_by_rows(network)
    assert network["layer"] is layer


def test_feed_forward_layers_are_computed_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = feed_forward(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 4))
    network, x, seen = nn.ModuleDict({"layer": layer}), torch.randn(2, 5, 4), []
    with torch.no_grad():
        expected = layer(x)
    rows_kernel.compute_by_rows(network)
    layer[1].register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    with torch.no_grad():
        torch.testing.assert_close(network["layer"](x), expected)
    assert seen == [3, 3, 3, 1]
    network["layer"](x)
    assert seen[4:] == [2], "with gradients, all at once"


@pytest.mark.parametrize("shape", [(3, 64, 4, 4), (2, 64, 17, 16), (3, 64)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_group_norms_of_small_images_are_those_of_pytorch(
    shape: tuple[int, ...], layout: torch.memory_format, dtype: torch.dtype
) -> None:
    norm = nn.GroupNorm(32, 64)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    network = nn.Sequential(copy.deepcopy(norm))
    optimize(network, training=True)
    assert kinds(network) == [nn.Sequential, SmallGroupNorm]
    x = torch.randn(shape, generator=Generator().manual_seed(1)).to(dtype)
    x = (x.contiguous(memory_format=layout) if x.ndim == 4 else x).requires_grad_()
    expected, made = norm(x), network(x)
    assert made.stride() == expected.stride() and made.dtype == expected.dtype
    torch.testing.assert_close(made, expected, atol=2e-2, rtol=2e-2)
    theirs, ours = (torch.autograd.grad(y.float().square().sum(), x)[0] for y in (expected, made))
    torch.testing.assert_close(ours, theirs, atol=0.1, rtol=0.05)
    restore(network)
    assert kinds(network) == [nn.Sequential, nn.GroupNorm] and torch.equal(network(x), expected)
