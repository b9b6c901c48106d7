"""`image_unet` and `text_unet` of the drop-in, number by number beside diffusers' own, on small random weights."""

import copy
import warnings
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.transformers.dual_transformer_2d import DualTransformer2DModel as TheirTransformer
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from PIL import Image
from torch import Generator, Tensor, nn

from tests.parity.small_pipelines import PROMPTS, built, components, mended, seeded
from versatile_diffusion import VersatileDiffusionPipeline, compat
from versatile_diffusion.compat import DualTransformer2DModel
from versatile_diffusion.kernels import linear, packing

WIDTH, TEXT, IMAGE = 24, 77, 257
STEP = {"rtol": 0, "atol": 1e-4}
NAMES = {"DualGuided": TEXT + IMAGE, "ImageVariation": IMAGE, "TextToImage": TEXT, "": IMAGE}
"""Tokens that `image_unet` of each pipeline takes."""


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


def both(name: str = "DualGuided", **instead: Any) -> tuple[Any, Any]:
    return built(compat, name, **instead), mended(built(diffusers, name, **instead))


def predicted(pipe: Any, tokens: int = TEXT + IMAGE, batch: int = 2, timestep: Any = 601) -> Tensor:
    latents, embeddings = random(batch, 4, 8, 8), random(batch, tokens, WIDTH, seed=1)
    return pipe.image_unet(latents, timestep, encoder_hidden_states=embeddings).sample


def text_unet() -> Any:
    """A U-Net of texts with the time embedding of that of images, as in a model that was trained."""
    made = components()
    made["text_unet"].time_embedding.load_state_dict(made["image_unet"].time_embedding.state_dict())
    return made["text_unet"]


def duals(pipe: Any, kind: type = DualTransformer2DModel) -> list[Any]:
    return [module for _, module in pipe.image_unet.named_modules() if isinstance(module, kind)]


def set_by_hand(pipe: Any, ratio: float, lengths: tuple[int, int], order: tuple[int, int]) -> None:
    """As the loops of the field do, which look for the class of the library that they import from."""
    for module in duals(pipe, TheirTransformer):
        module.mix_ratio = ratio
        for i in range(2):
            module.condition_lengths[i] = lengths[i]
            module.transformer_index_for_condition[i] = order[i]


# ---- calls ----


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_image_unet_is_called_as_a_u_net(name: str) -> None:
    ours, theirs = both(name)
    for timestep in (601, torch.tensor(601), torch.tensor([601, 3]), torch.tensor([7]), 12.5):
        expected = predicted(theirs, NAMES[name], timestep=timestep)
        torch.testing.assert_close(predicted(ours, NAMES[name], timestep=timestep), expected, **STEP)
    assert expected.std() > 0.01
    given = random(2, 4, 8, 12), 5, random(2, NAMES[name], WIDTH)
    output = ours.image_unet(*given)
    (as_tuple,) = ours.image_unet(*given, return_dict=False, cross_attention_kwargs=None)
    assert isinstance(output, UNet2DConditionOutput) and torch.equal(output.sample, as_tuple)
    torch.testing.assert_close(as_tuple, theirs.image_unet(*given).sample, **STEP)


@torch.no_grad()
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 1.0, 1.5])
@pytest.mark.parametrize(
    ("lengths", "order"),
    [((77, 257), (1, 0)), ((257, 77), (0, 1)), ((77, 257), (0, 1)), ((77, 257), (0, 0)), ((10, 20), (1, 0))],
)
def test_conditions_are_mixed_as_in_diffusers(
    ratio: float, lengths: tuple[int, int], order: tuple[int, int], unets: tuple[Any, Any]
) -> None:
    ours, theirs = unets
    for pipe in unets:
        set_by_hand(pipe, ratio, lengths, order)
    torch.testing.assert_close(predicted(ours), predicted(theirs), **STEP)


@pytest.fixture(scope="module")
def unets() -> tuple[Any, Any]:
    return both()


@torch.no_grad()
def test_every_transformer_has_settings_of_its_own() -> None:
    ours, theirs = both()
    assert len(duals(ours)) == len(duals(theirs, TheirTransformer)) == 4 and duals(theirs) == []
    for pipe in (ours, theirs):
        for i, module in enumerate(duals(pipe, TheirTransformer)):
            assert (module.mix_ratio, module.condition_lengths) == (0.5, [77, 257])
            assert module.transformer_index_for_condition == [1, 0]
            module.mix_ratio = 0.2 * i
            module.condition_lengths = [60 + i, 200]
            module.transformer_index_for_condition = (i % 2, 1 - i % 2)
    torch.testing.assert_close(predicted(ours), predicted(theirs), **STEP)


@torch.no_grad()
@pytest.mark.parametrize("types", [("text", "image"), ("image", "text")])
def test_set_transformer_params(types: tuple[Any, Any]) -> None:
    ours, theirs = both()
    ours.set_transformer_params(0.3, types)
    tokens = {"text": 8, "image": 5}
    theirs.set_transformer_params(0.3, types)
    for module in duals(theirs, TheirTransformer):
        module.condition_lengths = [tokens[kind] for kind in types]  # theirs knows the official 257 only
    torch.testing.assert_close(predicted(ours, 13), predicted(theirs, 13), **STEP)


def test_a_pipeline_leaves_its_mixture_behind(picture: Image.Image) -> None:
    ours, theirs = both()
    for pipe in (ours, theirs):
        seeded(pipe, PROMPTS[0], picture, 0.25)
    assert [m.mix_ratio for m in duals(ours)] == [0.25] * 4
    torch.testing.assert_close(predicted(ours, 13), predicted(theirs, 13), **STEP)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_labels": torch.zeros(2)}, "does not compute with class_labels"),
        ({"cross_attention_kwargs": {"scale": 0.5}}, "does not compute with cross_attention_kwargs"),
        ({"encoder_hidden_states": random(3, 13, WIDTH)}, "one row for each of the 2 latents, got 3"),
    ],
)
def test_what_is_not_computed_is_refused(options: dict[str, Any], message: str, unets: tuple[Any, Any]) -> None:
    given = {"encoder_hidden_states": random(2, 13, WIDTH)} | options
    with pytest.raises(ValueError, match=message):
        unets[0].image_unet(random(2, 4, 8, 8), 5, **given)


# ---- what a U-Net tells of itself ----


def test_attributes_and_configuration(unets: tuple[Any, Any]) -> None:
    ours, theirs = (pipe.image_unet for pipe in unets)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ours.in_channels == 4
    assert (ours.dtype, ours.device) == (torch.float32, torch.device("cpu"))
    assert ours.config.sample_size == 8
    differ = {key for key, value in theirs.config.items() if not key.startswith("_") and ours.config.get(key) != value}
    assert not differ - {"down_block_types", "up_block_types", "block_out_channels", "_name_or_path"}, differ
    for name in ("down_block_types", "up_block_types", "block_out_channels"):
        assert list(ours.config[name]) == list(theirs.config[name])


@pytest.mark.parametrize("name", NAMES)
def test_layers_have_diffusers_names_and_the_diffusers_weights(name: str) -> None:
    ours, theirs = both(name, text_unet=text_unet())
    for unet in ("image_unet", "text_unet") if name in ("", "DualGuided") else ("image_unet",):
        mine, other = (dict(getattr(pipe, unet).named_parameters()) for pipe in (ours, theirs))
        assert list(mine) == list(other), "LoRAs are drawn in the order of layers"
        assert all(torch.equal(mine[key].flatten(), other[key].flatten()) for key in mine)
    held = {id(parameter) for parameter in ours.image_unet.brought().parameters()}
    assert {id(parameter) for parameter in ours.image_unet.parameters()} <= held, "no weight is there twice"
    block = ours.image_unet.down_blocks[0].attentions[0]
    assert len(ours.image_unet.down_blocks) == len(theirs.image_unet.down_blocks) == 2
    assert isinstance(block, DualTransformer2DModel) == (name == "DualGuided")


def test_weights_of_diffusers_are_read() -> None:
    ours, theirs = both()
    with torch.no_grad():
        for parameter in theirs.image_unet.parameters():
            parameter.mul_(1.1)
    ours.image_unet.load_state_dict(theirs.image_unet.state_dict())
    torch.testing.assert_close(predicted(ours), predicted(theirs), **STEP)


def test_a_copy_is_one() -> None:
    ours, _ = both()
    before, other = predicted(ours), copy.deepcopy(ours.image_unet)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(predicted(ours), before)
    assert not other(random(1, 4, 8, 8), 1, random(1, 13, WIDTH)).sample.any()


def test_a_view_is_not_saved_by_itself(unets: tuple[Any, Any], tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match="save_lora_adapter"):
        unets[0].image_unet.save_pretrained(tmp_path)


@torch.no_grad()
def test_half_precision_and_moving() -> None:
    for pipe in (both()[0], both()[0].to(torch.bfloat16)):
        pipe.image_unet.to(torch.bfloat16)
        assert pipe.image_unet.dtype == pipe.image_unet.brought().dtype == torch.bfloat16
        given = random(2, 4, 8, 8).bfloat16(), 5, random(2, TEXT + IMAGE, WIDTH, seed=1).bfloat16()
        made = pipe.image_unet(*given).sample
        assert made.dtype == torch.bfloat16
        theirs = both()[1]
        expected = theirs.image_unet(given[0].float(), 5, given[2].float()).sample
        torch.testing.assert_close(made.float(), expected, rtol=0, atol=0.05)
        assert pipe.image_unet.to("cpu") is pipe.image_unet and pipe.image_unet.eval() is pipe.image_unet


# ---- text_unet ----


@torch.no_grad()
def test_text_unet_is_there_and_computes_where_it_was_given() -> None:
    ours, theirs = both("", text_unet=text_unet())
    ours.text_unet.eval().requires_grad_(False)
    latents, tokens = random(2, 48, 4, 1), random(2, TEXT, WIDTH)
    expected = theirs.text_unet(latents, 3, encoder_hidden_states=tokens).sample
    torch.testing.assert_close(ours.text_unet(latents, 3, encoder_hidden_states=tokens).sample, expected, **STEP)
    assert ours.text_unet.config.cross_attention_dim == WIDTH
    ours.remove_unused_weights()
    assert ours.text_unet is None


def test_text_unet_is_opened_whole_if_asked_for(pipe: VersatileDiffusionPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "model")
    opened = compat.VersatileDiffusionDualGuidedPipeline.from_pretrained
    latents, tokens = random(2, 48, 1, 1), random(2, 16, WIDTH)
    part: Any = opened(tmp_path / "model")
    shared = part.text_unet.get_submodule("mid_block.attentions.0.proj_in")
    assert shared is part.image_unet.get_submodule("mid_block.attentions.0.transformers.1.proj_in")
    with pytest.raises(ValueError, match="text_unet=True"):
        part.text_unet(latents, 3, tokens)
    whole: Any = opened(tmp_path / "model", text_unet=True)
    assert whole.text_unet(latents, 3, tokens).sample.shape == latents.shape
    assert whole.text_unet.config.in_channels == (48, 1, 1)


# ---- gradients, LoRAs and speed ----


def test_gradients_and_checkpointing() -> None:
    ours, theirs = both()
    for pipe in (ours, theirs):
        set_by_hand(pipe, 0.0, (TEXT, IMAGE), (1, 0))
        pipe.image_unet.requires_grad_(False)
        assert not any(parameter.requires_grad for parameter in pipe.image_unet.parameters())
        pipe.image_unet.mid_block.requires_grad_(True)
    made: list[dict[str, Tensor]] = []
    for pipe, checkpointing in ((theirs, False), (ours, False), (ours, True)):
        unet = pipe.image_unet
        unet.zero_grad()
        if checkpointing:
            unet.enable_gradient_checkpointing()
        assert unet.is_gradient_checkpointing == checkpointing
        embeddings = random(2, TEXT + IMAGE, WIDTH, seed=1).requires_grad_()
        unet(random(2, 4, 8, 8), 601, embeddings).sample.square().mean().backward()
        assert embeddings.grad is not None
        grads = {name: p.grad.flatten() for name, p in unet.named_parameters() if p.grad is not None}
        made.append({"embeddings": embeddings.grad.flatten()} | grads)
    ours.image_unet.disable_gradient_checkpointing()
    assert not ours.image_unet.is_gradient_checkpointing
    expected, *others = made
    assert "mid_block.attentions.0.transformers.0.transformer_blocks.0.attn2.to_k.weight" in expected
    for grads in others:
        assert grads.keys() == expected.keys()
        for name, grad in grads.items():
            torch.testing.assert_close(grad, expected[name], rtol=1e-3, atol=1e-6)


def test_loras_go_into_the_diffuser_and_out_again() -> None:
    from peft import LoraConfig

    ours, _ = both()
    before = predicted(ours)
    ours.image_unet.add_adapter(LoraConfig(r=2, target_modules=["attn2.to_k", "to_out.0"], init_lora_weights=False))
    changed = predicted(ours)
    assert not torch.allclose(changed, before, atol=1e-3)
    adapted = [name for name, _ in ours.image_unet.brought().named_modules() if name.endswith("lora_A.default")]
    assert len(adapted) == 2 * 4 * 3, "of both modalities: keys of the cross-attention, and what comes out of both"
    ours.image_unet.disable_adapters()
    torch.testing.assert_close(predicted(ours), before)
    ours.image_unet.enable_adapters()
    torch.testing.assert_close(predicted(ours), changed)
    ours.image_unet.unload_lora()
    torch.testing.assert_close(predicted(ours), before)
    assert not any("lora" in name for name, _ in ours.image_unet.brought().named_parameters())


def test_packing_is_undone_by_what_needs_weights(picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (packing, linear):
        monkeypatch.setattr(module, "LARGE", 1)
    ours = built(compat, "DualGuided")
    with torch.no_grad():
        pictures, before = seeded(ours, PROMPTS[0], picture), predicted(ours)
        weights = {name: tensor.clone() for name, tensor in ours.image_unet.state_dict().items()}
        ours.pack()
        assert any(isinstance(part, packing.PackedLayer) for part in ours.image_unet.modules())
        torch.testing.assert_close(predicted(ours), before, **STEP)
        assert abs(seeded(ours, PROMPTS[0], picture) - pictures).max() < 1e-4
        assert ours.image_unet.state_dict().keys() == weights.keys()
    ours.image_unet.requires_grad_(True)
    for name, tensor in ours.image_unet.named_parameters():
        assert torch.equal(tensor, weights[name]) and tensor.requires_grad
    ours.pack()
    ours.unpack()
    parts = [part for name in ("image_unet", "text_unet", "vae") for part in getattr(ours, name).modules()]
    assert not any(isinstance(part, packing.PackedLayer) for part in parts)


@torch.no_grad()
def test_layers_may_be_offloaded_one_by_one(picture: Image.Image) -> None:
    ours, _ = both()
    expected = seeded(ours, PROMPTS[0], picture)
    with pytest.raises(ValueError, match="leaf_level"):
        ours.enable_group_offload("cpu", offload_type="block_level")
    ours.enable_group_offload("cpu")
    assert ours.text_unet is None and abs(seeded(ours, PROMPTS[0], picture) - expected).max() < 1e-4


@torch.no_grad()
def test_wider_input_layers_are_used() -> None:
    """Four more channels of the input, beside the latents, as Dynadiff adds them."""
    ours, theirs = both()
    for pipe in (ours, theirs):
        first = pipe.image_unet.conv_in
        assert isinstance(first, nn.Conv2d)
        first.weight = nn.Parameter(torch.cat([first.weight, random(*first.weight.shape, seed=4)], dim=1))
    given = random(2, 8, 8, 8), 601, random(2, TEXT + IMAGE, WIDTH, seed=1)
    torch.testing.assert_close(ours.image_unet(*given).sample, theirs.image_unet(*given).sample, **STEP)


def test_views_of_one_diffuser_change_together() -> None:
    whole = built(compat, "")
    part = built(compat, "DualGuided", **whole.components)
    again = built(compat, "DualGuided", **part.components)
    assert again.image_unet is part.image_unet and part.image_unet is not whole.image_unet
    with torch.no_grad():
        before = predicted(part)
        whole.image_unet.conv_out.weight.mul_(2)
        assert not torch.equal(predicted(part), before)
    alone = built(compat, "ImageVariation")
    with pytest.raises(ValueError, match="lacks what attends to text"):
        built(compat, "DualGuided", image_unet=alone.image_unet, text_unet=None)
    with pytest.raises(ValueError, match="pass both, or neither"):
        built(compat, "DualGuided", image_unet=alone.image_unet)
