"""How LoRAs of others name the layers that they change.

A key has three parts: the network, the layer in it, and what the tensor is to the layer.

    lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight                kohya's sd-scripts, LyCORIS
    unet.down_blocks.0.attentions.0.proj_in.lora_A.weight                        diffusers, peft
    unet.down_blocks.0.attentions.0.proj_in.lora.down.weight                     diffusers 0.22 to 0.27
    down_blocks.0…attn1.processor.to_q_lora.down.weight                          diffusers until 0.21 (attn_procs)
    base_model.model.down_blocks.0.attentions.0.proj_in.lora_A.weight            peft alone
    diffusion_model.input_blocks.1.1.proj_in.lora_A.weight                       ComfyUI, in latent diffusion's names
    context_layers.text.0.project_in.lora_A.weight                               ours

Where the layers are is what the tables of whole models say, so a table of LoRAs is made of these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from versatile_diffusion.checkpoints.diffuser_layouts import diffusers_unet, stable_diffusion
from versatile_diffusion.diffuser.plan import Plan

DOWN, UP, ALPHA = "down", "up", "alpha"

_ROLES: Mapping[str, str] = {
    ".lora_down.weight": DOWN,
    ".lora_up.weight": UP,
    ".lora_A.weight": DOWN,
    ".lora_B.weight": UP,
    ".lora_A.default.weight": DOWN,
    ".lora_B.default.weight": UP,
    ".lora.down.weight": DOWN,
    ".lora.up.weight": UP,
    "_lora.down.weight": DOWN,
    "_lora.up.weight": UP,
    ".lora_linear_layer.down.weight": DOWN,
    ".lora_linear_layer.up.weight": UP,
    ".alpha": ALPHA,
    ".lora.alpha": ALPHA,
    "_lora.alpha": ALPHA,
}
_PREFIXES = ("", "unet.", "base_model.model.", "base_model.model.unet.", "diffusion_model.", "model.diffusion_model.")
_SINGLE, _DUAL = ("image", "text"), ("image", "image", "text")  # an output and its contexts
_TEXT_PREFIXES = ("base_model.model.text_encoder.", "text_encoder.", "lora_te1_", "lora_te_")
_TEXT_MODEL = "text_model."


class LayerKey(NamedTuple):
    """What a key says.

    Attributes:
        layer: the name of the layer there, with its network.
        role: `DOWN` or `UP`, the two factors of the change, or `ALPHA`, which divided by the rank is its scale.
    """

    layer: str
    role: str


def read_key(key: str) -> LayerKey | None:
    """Splits a key; None if it is of something else than a plain LoRA."""
    suffix = max((suffix for suffix in _ROLES if key.endswith(suffix)), key=len, default=None)
    return None if suffix is None else LayerKey(key.removesuffix(suffix).replace(".processor.", "."), _ROLES[suffix])


def unet_layers(plan: Plan) -> dict[str, str]:
    """Returns the layers of a diffuser by the names that others give them: those of images from texts."""
    names: dict[str, str] = {}
    for table in (stable_diffusion(plan), diffusers_unet(plan, *_SINGLE), diffusers_unet(plan, *_DUAL)):
        for key, theirs in table.items():
            if key.endswith(".weight"):
                stored = theirs.key.removeprefix("model.diffusion_model.").removesuffix(".weight")
                names |= dict.fromkeys(_spellings(stored), key.removesuffix(".weight"))
    return names


def text_layers(ours: Iterable[str]) -> dict[str, str]:
    """Returns the layers of a text encoder of CLIP by the names that others give them.

    Args:
        ours: its layers, as transformers names them, which since version 5 leaves out `text_model.`
    """
    names: dict[str, str] = {}
    for layer in ours:
        inner = layer.removeprefix("model.").removeprefix(_TEXT_MODEL)
        old = re.sub(r"\.(q|k|v|out)_proj$", r".to_\1", inner)  # as attention was called until diffusers 0.17
        for name in {inner, old, _TEXT_MODEL + inner, _TEXT_MODEL + old}:
            names |= {f"{prefix}{name}": layer for prefix in _TEXT_PREFIXES[:2]}
            names |= {f"{prefix}{name.replace('.', '_')}": layer for prefix in _TEXT_PREFIXES[2:]}
    return names


def is_of_text_encoder(layer: str) -> bool:
    """Tells whether a layer that others name is one of a text encoder."""
    return layer.startswith(_TEXT_PREFIXES)


def _spellings(layer: str) -> list[str]:
    """A layer of a U-Net with all prefixes; what attention puts out had no number until diffusers 0.21."""
    dotted = [f"{prefix}{layer}" for prefix in _PREFIXES]
    return [*dotted, *(name.removesuffix(".0") for name in dotted), f"lora_unet_{layer.replace('.', '_')}"]
