"""LoRAs of other trainers change the same layers by the same numbers as in diffusers."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from tests.unit.checkpoints import folders as made
from tests.unit.pipeline import lora_files as files
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.checkpoints import CheckpointError
from versatile_diffusion.cli import app
from versatile_diffusion.diffuser import ContextTokens
from versatile_diffusion.pipeline.lora import save_lora

Pipe = VersatileDiffusionPipeline


class Peers(NamedTuple):
    """One small Stable Diffusion, opened by us and by diffusers."""

    ours: Pipe
    theirs: Any
    folder: Path

    def predictions(self) -> tuple[Tensor, Tensor]:
        """What both U-Nets make of the same latents and tokens."""
        torch.manual_seed(3)
        latents, tokens, times = torch.randn(2, 4, 16, 16), torch.randn(2, 5, 24), torch.tensor([7, 500])
        with torch.no_grad():
            ours = self.ours.diffuser(latents, times, "image", [ContextTokens("text", tokens)])
            return ours, self.theirs.unet(latents, times, tokens).sample

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """What both text encoders make of the same text."""
        ids = made.text(self.ours.parts).context_ids(["a red house"])
        with torch.no_grad():
            return self.ours.encode_context("text", "a red house"), self.theirs.text_encoder(ids).last_hidden_state


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sd") / "sd"
    made.save_stable_diffusion(made.random_model(), place)
    return place


@pytest.fixture(scope="module")
def session_peers(folder: Path) -> Peers:
    ours = Pipe.from_pretrained(folder)
    encoder = made.text(ours.parts).context_encoder
    assert encoder is not None
    theirs = StableDiffusionPipeline(
        vae=made.image(ours.parts).autoencoder,  # pyright: ignore[reportArgumentType]
        text_encoder=copy.deepcopy(encoder.model),  # pyright: ignore[reportArgumentType]
        tokenizer=made.text(ours.parts).tokenizers.clip,  # pyright: ignore[reportArgumentType]
        unet=UNet2DConditionModel.from_pretrained(folder / "unet"),
        scheduler=ours.scheduler,
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )
    return Peers(ours, theirs, folder)


@pytest.fixture
def peers(session_peers: Peers) -> Iterator[Peers]:
    yield session_peers
    session_peers.ours.unload_lora()
    session_peers.theirs.unload_lora_weights()


def assert_same(pair: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(*pair, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layout", files.LAYOUTS)
def test_a_lora_changes_what_it_changes_in_diffusers(peers: Peers, layout: str, tmp_path: Path):
    tensors = files.LAYOUTS[layout](peers.theirs.unet)
    before, reference = peers.predictions()
    assert_same((before, reference))
    file = files.saved(tensors, tmp_path / "style.safetensors")
    assert peers.ours.load_lora(file) == "style"
    peers.theirs.load_lora_weights(str(file))
    ours, theirs = peers.predictions()
    assert (theirs - reference).abs().max() > 0.01, "it changes something"
    assert_same((ours, theirs))
    changed = sum(key.endswith(("down.weight", "lora_A.weight")) for key in tensors)
    assert sum(hasattr(layer, "lora_A") for layer in peers.ours.diffuser.modules()) == changed
    peers.ours.set_adapters({"style": 0.5})
    peers.theirs.set_adapters(peers.theirs.get_active_adapters(), 0.5)
    assert_same(peers.predictions())
    peers.ours.unload_lora()
    torch.testing.assert_close(peers.predictions()[0], before, atol=1e-6, rtol=0)


def test_each_layer_has_its_own_alpha(peers: Peers, tmp_path: Path):
    unet = peers.theirs.unet
    kohya = files.saved(files.kohya(unet, alpha=None), tmp_path / "a.safetensors")
    scaled: files.Tensors = {}
    for name, down, up, alpha in files.changes(unet):
        scaled |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up * (alpha / len(down))}
    peers.theirs.load_lora_weights(scaled)
    peers.ours.load_lora(kohya)
    assert_same(peers.predictions())


@pytest.mark.parametrize("prefix", ["", "base_model.model.", "base_model.model.unet."])
def test_names_without_a_network_mean_the_unet(peers: Peers, prefix: str, tmp_path: Path):
    tensors = files.named(peers.theirs.unet, "", ("lora_A", "lora_B"))
    peers.theirs.unet.load_lora_adapter(dict(tensors), prefix=None)
    tensors = {f"{prefix}{key}": tensor for key, tensor in tensors.items()}
    peers.ours.load_lora(files.saved(tensors, tmp_path / "a.safetensors"))
    assert_same(peers.predictions())


def test_old_attention_processors_without_a_prefix(peers: Peers, tmp_path: Path):
    tensors = files.attention_processors(peers.theirs.unet)
    peers.ours.load_lora(files.saved(tensors, tmp_path / "pytorch_lora_weights.safetensors"))
    assert list(peers.ours.adapters) == [tmp_path.name.replace("-", "_")], "named after its folder"
    peers.theirs.unet.load_lora_adapter(tensors, prefix=None)
    assert_same(peers.predictions())


def test_alphas_in_the_metadata_of_diffusers(peers: Peers, tmp_path: Path):
    only = r".*attn2\.to_[kq]"
    tensors = files.named(peers.theirs.unet, "unet.", ("lora_A", "lora_B"), only)
    ranks = {name: len(down) for name, down, _, _ in files.changes(peers.theirs.unet, only)}
    first = next(iter(ranks))
    config = {
        "unet.r": 2,
        "unet.lora_alpha": 6,
        "unet.target_modules": list(ranks),
        "unet.rank_pattern": {f"^{name}": rank for name, rank in ranks.items() if rank != 2},
        "unet.alpha_pattern": {first: 1.5},
    }
    file = files.saved(tensors, tmp_path / "a.safetensors", {"lora_adapter_metadata": json.dumps(config)})
    peers.ours.load_lora(file)
    peers.theirs.load_lora_weights(str(file))
    assert_same(peers.predictions())


def test_names_of_latent_diffusion_are_the_same_layers(peers: Peers, tmp_path: Path):
    layers = {"input_blocks.1.1.proj_in": "down_blocks.0.attentions.0.proj_in", "out.2": "conv_out"}
    layers |= {"input_blocks.2.0.op": "down_blocks.0.downsamplers.0.conv"}
    tensors = files.named(peers.theirs.unet, "", ("lora_A", "lora_B"))
    factors = [f"lora_{factor}.weight" for factor in "AB"]
    theirs = {f"unet.{name}.{factor}": tensors[f"{name}.{factor}"] for name in layers.values() for factor in factors}
    ours = {
        f"diffusion_model.{ldm}.{factor}": tensors[f"{name}.{factor}"]
        for ldm, name in layers.items()
        for factor in factors
    }
    peers.ours.load_lora(files.saved(ours, tmp_path / "a.safetensors"))
    peers.theirs.load_lora_weights(theirs)
    assert_same(peers.predictions())


@pytest.mark.parametrize("layout", ["kohya", "peft"])
def test_a_text_encoder_is_changed_as_well(peers: Peers, layout: str, tmp_path: Path):
    encoder, only = peers.theirs.text_encoder, r".*(self_attn|mlp).*"
    names = {"kohya": "lora_te_text_model_", "peft": "text_encoder.text_model."}
    if layout == "kohya":
        tensors = {
            key.replace("lora_te_", names[layout]): value
            for key, value in files.kohya(encoder, "lora_te_", only).items()
        }
    else:
        tensors = files.named(encoder, names[layout], ("lora_A", "lora_B"), only)
    tensors |= files.LAYOUTS[layout](peers.theirs.unet)
    file = files.saved(tensors, tmp_path / "both.safetensors")
    _, before = peers.embeddings()
    peers.ours.load_lora(file)
    peers.theirs.load_lora_weights(str(file))
    ours, theirs = peers.embeddings()
    assert (theirs - before).abs().max() > 0.01
    assert_same((ours, theirs))
    assert_same(peers.predictions())
    assert peers.ours.adapters == {"both": 1.0}
    peers.ours.fuse_lora()
    assert_same(peers.embeddings())
    with pytest.raises(ValueError, match="unload_lora"):
        peers.ours.save_pretrained(tmp_path / "model")
    peers.ours.unload_lora()
    assert peers.ours.adapters == {}
    torch.testing.assert_close(peers.embeddings()[0], before, atol=1e-5, rtol=0)


def test_what_a_model_was_opened_without_is_left_out_and_said(folder: Path, session_peers: Peers, tmp_path: Path):
    pipe = Pipe.from_pretrained(folder)
    setattr(pipe.modalities["text"], "context_encoder", None)  # noqa: B010 - as where texts come as embeddings
    plain = UNet2DConditionModel.from_pretrained(folder / "unet")
    tensors = files.kohya(session_peers.theirs.text_encoder, "lora_te_text_model_", r".*self_attn.*")
    both = files.saved(tensors | files.kohya(plain), tmp_path / "both.safetensors")  # pyright: ignore[reportArgumentType]
    with pytest.warns(UserWarning, match=r"4 layers of CLIP's text encoder, which are left out"):
        pipe.load_lora(both)
    with pytest.warns(UserWarning), pytest.raises(CheckpointError, match="only what this model was opened without"):
        pipe.load_lora(files.saved(tensors, tmp_path / "texts.safetensors"), "other")


def test_a_lora_of_another_trainer_is_saved_as_ours(peers: Peers, tmp_path: Path):
    file = files.saved(files.kohya(peers.theirs.unet), tmp_path / "a.safetensors")
    peers.ours.load_lora(file)
    expected, _ = peers.predictions()
    save_lora(peers.ours.diffuser, tmp_path / "ours")
    for place in (tmp_path / "ours", tmp_path / "ours" / "lora.safetensors"):
        peers.ours.unload_lora()
        assert peers.ours.load_lora(place) == "ours"
        torch.testing.assert_close(peers.predictions()[0], expected, atol=1e-6, rtol=0)
    ranks = {len(tensor) for key, tensor in load_file(place).items() if "lora_A" in key}  # pyright: ignore[reportPossiblyUnboundVariable]
    assert ranks == {2, 3}


def attention(width: int = 24, blocks: int = 0) -> files.Tensors:
    stem = f"lora_unet_down_blocks_0_attentions_0_transformer_blocks_{blocks}_attn2_to_k"
    return {f"{stem}.lora_down.weight": torch.zeros(2, width), f"{stem}.lora_up.weight": torch.zeros(32, 2)}


WRONG = {
    "SDXL by its width": (attention(2048), r"a LoRA of SDXL.*width 2048.*24 wide"),
    "SDXL by its depth": (attention(24, blocks=3), "a LoRA of SDXL"),
    "SDXL by its second text encoder": ({"lora_te2_x.lora_down.weight": torch.zeros(1)}, "several text encoders"),
    "SD 2": (attention(1024), r"a LoRA of Stable Diffusion 2.*1024"),
    "SD 1 for a model of other sizes": (attention(768), r"a LoRA of Stable Diffusion v1.*768.*24 wide"),
    "LoHa": ({"lora_unet_mid_block_proj.hada_w1_a": torch.zeros(1)}, "a LoHa of LyCORIS"),
    "LoKr": ({"lora_unet_mid_block_proj.lokr_w1": torch.zeros(1)}, "a LoKr of LyCORIS"),
    "DoRA": (attention() | {"lora_unet_x.dora_scale": torch.zeros(1)}, "a DoRA"),
    "Flux": ({"transformer.single_blocks.0.lora_A.weight": torch.zeros(1)}, "Flux"),
    "a whole model": (
        {"model.diffusion_model.input_blocks.0.0.conv_in.weight": torch.zeros(1)},
        "Pass it as the model",
    ),
    "a textual inversion": ({"emb_params": torch.zeros(1)}, "textual inversion"),
    "half a LoRA": ({"unet.conv_in.lora_A.weight": torch.zeros(1)}, "one factor of two"),
    "something else": ({"lm_head.weight": torch.zeros(1)}, "no LoRA that can be read.*lm_head"),
    "nothing": ({}, "no tensors"),
    "unknown layers": ({f"unet.adapter.lora_{f}.weight": torch.zeros(1, 1) for f in "AB"}, "adapter is not there"),
    "another size": ({f"unet.conv_in.lora_{f}.weight": torch.zeros(3, 7) for f in "AB"}, "conv_in has .* instead of"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_says_what_it_is(session_peers: Peers, what: str, tmp_path: Path):
    tensors, message = WRONG[what]
    with pytest.raises(CheckpointError, match=message) as raised:
        session_peers.ours.load_lora(files.saved(tensors, tmp_path / "a.safetensors"))
    assert len(str(raised.value)) < 1000
    assert session_peers.ours.adapters == {}


@pytest.mark.parametrize("name", ["a.pt", "a.ckpt", "a.bin"])
def test_pickles_are_no_loras(session_peers: Peers, name: str, tmp_path: Path):
    torch.save(attention(), tmp_path / name)
    with pytest.raises(CheckpointError, match=r"no \.safetensors.*could run code"):
        session_peers.ours.load_lora(tmp_path / name)
    with pytest.raises(CheckpointError, match="missing"):
        session_peers.ours.load_lora(tmp_path / "nowhere.safetensors")


def test_the_command_line_takes_a_file(peers: Peers, tmp_path: Path):
    file = files.saved(files.kohya(peers.theirs.unet), tmp_path / "style:2.safetensors")
    pictures = []
    for scale in ("", ":0.5"):
        output = tmp_path / f"{scale[1:] or 1}.png"
        options = f"generate image --text tent --steps 2 --seed 0 --dtype fp32 --device cpu --output {output}"
        model = ["--model", str(peers.folder), "--lora", f"{file}{scale}"]
        result = CliRunner().invoke(app, [*options.split(), *model])
        assert result.exit_code == 0, result.output
        pictures.append(output.read_bytes())
    assert len(set(pictures)) == 2
