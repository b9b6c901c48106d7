"""Folders in the layouts of others, made from a tiny model of random weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import UNetFlatConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from versatile_diffusion.checkpoints import Components, diffuser_layouts, encoder_keys
from versatile_diffusion.checkpoints.keys import to_theirs
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.modalities.vocabulary import word_tokenizers
from versatile_diffusion.model_presets import Preset, build, tiny

SCHEDULE = {"betas": (1000,), "alphas_cumprod": (1000,), "posterior_mean_coef1": (1000,), "logvar": (1000,)}


def preset() -> Preset:
    """The tiny preset with the official number of heads, which official files do not tell."""
    sizes = tiny()
    return replace(sizes, diffuser=replace(sizes.diffuser, num_heads=8))


def random_model(seed: int = 0) -> Components:
    torch.manual_seed(seed)
    components = build(preset())
    for module in (components.diffuser, *components.modalities.values()):
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    text(components).tokenizers = word_tokenizers(["a red house by the sea", "two tents at night"])
    return components


def image(components: Components) -> ImageModality:
    modality = components.modalities["image"]
    assert isinstance(modality, ImageModality)
    return modality


def text(components: Components) -> TextModality:
    modality = components.modalities["text"]
    assert isinstance(modality, TextModality)
    return modality


def parts(components: Components) -> dict[str, dict[str, Tensor]]:
    """Every part of the model in official keys."""
    kl, optimus = image(components).autoencoder, text(components).autoencoder
    clip_image, clip_text = image(components).context_encoder, text(components).context_encoder
    assert kl and optimus and clip_image and clip_text
    channels, layers = kl.config["block_out_channels"], kl.config["layers_per_block"]
    renamed = to_theirs(encoder_keys.optimus(optimus.state_dict()), optimus.state_dict())
    return {
        "kl": to_theirs(encoder_keys.kl_autoencoder(channels, layers), kl.state_dict()),
        "optimus": renamed | encoder_keys.optimus_derived(renamed),
        "clip_image": dict(clip_image.model.state_dict()),
        "clip_text": dict(clip_text.model.state_dict()),
    }


def save_official(components: Components, folder: Path, legacy: bool = False, inside: bool = True) -> None:
    """Official .pth files; the autoencoders lie inside the first one or in files of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    held = parts(components)
    clip = held["clip_image"] | held["clip_text"] | {"logit_scale": torch.tensor(2.6)}
    layout = diffuser_layouts.legacy if legacy else diffuser_layouts.official
    main = to_theirs(layout(components.diffuser.plan), components.diffuser.state_dict())
    main |= {name: torch.zeros(shape) for name, shape in SCHEDULE.items()}
    for prefix in ("clip.model.",) if legacy else ("ctx.image.model.", "ctx.text.model."):
        main |= under(prefix, clip)
    if inside:
        main |= under("autokl." if legacy else "vae.image.", held["kl"])
        main |= under("optimus." if legacy else "vae.text.", held["optimus"])
    else:
        torch.save(held["kl"], folder / "kl-f8.pth")
        torch.save(held["optimus"], folder / "optimus-vae.pth")
    torch.save(main, folder / f"vd-four-flow-v1-0{'-deprecated' if legacy else ''}.pth")
    save_tokenizers(components, folder)


def save_diffusers(
    components: Components, folder: Path, optimus: bool = True, library: str = "diffusers", safe: bool = True
) -> None:
    """The layout of shi-labs/versatile-diffusion."""
    folder.mkdir(parents=True)
    save_unet(components, folder / "image_unet", "image", "image", safe)
    save_unet(components, folder / "text_unet", "text", "text", safe)
    kl, clip_image, clip_text = encoders(components)
    kl.save_pretrained(folder / "vae", safe_serialization=safe)
    clip_image.model.save_pretrained(folder / "image_encoder")
    clip_text.model.save_pretrained(folder / "text_encoder")
    components.scheduler.save_pretrained(folder / "scheduler")
    index = {"_class_name": "VersatileDiffusionPipeline", "text_unet": [library, "UNetFlatConditionModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    if optimus:
        (folder / "pretrained_pth").mkdir()
        torch.save(parts(components)["optimus"], folder / "pretrained_pth" / "optimus-vae.pth")
    save_tokenizers(components, folder)


def save_stable_diffusion(components: Components, folder: Path) -> CLIPTextModel:
    """Stable Diffusion v1, with a text encoder of its own that has no projection. Returns it."""
    folder.mkdir(parents=True)
    save_unet(components, folder / "unet", "image", "text", safe=True)
    encoders(components)[0].save_pretrained(folder / "vae")
    config = preset().text.context_encoder | {"hidden_size": preset().text.context_encoder["projection_dim"]}
    clip = CLIPTextModel(CLIPTextConfig(**config))
    clip.save_pretrained(folder / "text_encoder")
    components.scheduler.save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    save_tokenizers(components, folder)
    return clip


def save_stable_diffusion_file(components: Components, file: Path, clip: CLIPTextModel, **others: Tensor) -> None:
    """Stable Diffusion v1 as one file, with a text encoder as `save_stable_diffusion` makes it, and other tensors."""
    held = components.diffuser.state_dict()
    table = diffuser_layouts.stable_diffusion(components.diffuser.plan)
    tensors = to_theirs(table, {key: held[key] for key in table})
    tensors |= under("first_stage_model.", parts(components)["kl"])
    texts = {
        key if key.startswith("text_model.") else f"text_model.{key}": value for key, value in clip.state_dict().items()
    }
    tensors |= under("cond_stage_model.transformer.", texts)
    tensors |= {name: torch.zeros(shape) for name, shape in SCHEDULE.items()} | others
    tensors = {key: tensor.clone().contiguous() for key, tensor in tensors.items()}
    if file.suffix == ".safetensors":
        save_file(tensors, file)
    else:
        torch.save({"state_dict": tensors}, file)
    save_tokenizers(components, file.parent)


def save_unet(components: Components, folder: Path, output: str, context: str, safe: bool) -> None:
    config, suffix = preset().diffuser, {"image": "2D", "text": "Flat"}[output]
    cross = zip(config.with_context, ("", ""), strict=True)
    down = [f"{'CrossAttn' if attends else ''}DownBlock{suffix}" for attends, _ in cross]
    options: dict[str, Any] = {
        "down_block_types": down,
        "up_block_types": [name.replace("Down", "Up") for name in reversed(down)],
        "block_out_channels": config.channels,
        "layers_per_block": 1,
        "cross_attention_dim": 24,
        "attention_head_dim": config.num_heads,
    }
    channels: Any = 4 if output == "image" else (48, 1, 1)
    cls = {"image": UNet2DConditionModel, "text": UNetFlatConditionModel}[output]
    unet = cls(in_channels=channels, out_channels=channels, **options)
    table = diffuser_layouts.diffusers_unet(components.diffuser.plan, output, context)
    held = components.diffuser.state_dict()
    unet.load_state_dict(to_theirs(table, {key: held[key] for key in table}))
    unet.save_pretrained(folder, safe_serialization=safe)


def encoders(components: Components) -> tuple[AutoencoderKL, Any, Any]:
    kl = image(components).autoencoder
    assert kl is not None
    return kl, image(components).context_encoder, text(components).context_encoder


def save_tokenizers(components: Components, folder: Path) -> None:
    tokenizers = text(components).tokenizers
    for tokenizer, name in (
        (tokenizers.clip, "clip-vit-large-patch14"),
        (tokenizers.bert, "bert-base-cased"),
        (tokenizers.gpt2, "gpt2"),
    ):
        assert tokenizer is not None
        tokenizer.save_pretrained(folder / "tokenizers" / name)


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in tensors.items()}


def assert_equal(actual: Components, expected: Components) -> None:
    """The same weights, of which `actual` may have fewer."""
    assert actual.modalities.keys() <= expected.modalities.keys()
    pairs = [(actual.diffuser, expected.diffuser)]
    pairs += [(modality, expected.modalities[name]) for name, modality in actual.modalities.items()]  # pyright: ignore
    for module, reference in pairs:
        weights = reference.state_dict()
        assert module.state_dict(), type(module)
        for key, tensor in module.state_dict().items():
            assert torch.equal(tensor, weights[key]), key
