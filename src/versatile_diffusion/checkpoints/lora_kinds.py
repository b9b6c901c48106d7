"""What files that are called LoRAs are, where they are no plain ones for Stable Diffusion v1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from versatile_diffusion.checkpoints.errors import CheckpointError
from versatile_diffusion.checkpoints.kinds import WIDTHS
from versatile_diffusion.checkpoints.tensors import Tensors

_PLAIN = (
    "Plain LoRAs are read, which add two factors to a layer: take one, or merge this into its model where it was made."
)
_OTHER_MODEL = "Take a LoRA that was trained for Stable Diffusion v1, or for the model that you opened."

_OTHERS: Mapping[str, tuple[str, str]] = {
    r".*\.hada_[wt]\d.*": ("a LoHa of LyCORIS", _PLAIN),
    r".*\.lokr_[wt].*": ("a LoKr of LyCORIS", _PLAIN),
    r".*\.(dora_scale|lora_magnitude_vector.*)": ("a DoRA", _PLAIN),
    r".*\.(oft_.*|boft_.*)": ("an OFT", _PLAIN),
    r".*\.(on_input|lora_mid\.weight|[ab][12]\.weight)": (
        "a LyCORIS of more than two factors (IA³, Tucker, GLoRA)",
        _PLAIN,
    ),
    r".*\.(diff|diff_b|w_norm|b_norm)": ("a LyCORIS of whole differences", _PLAIN),
    r".*\.lora_B\.(\w+\.)?bias": ("a LoRA with biases", _PLAIN),
    r".*_custom_diffusion\..*": ("Custom Diffusion", _PLAIN),
    r"lora_controlnet": ("a Control-LoRA", _PLAIN),
    r"lora_te[23]_.*|text_encoder_[23]\..*": ("a LoRA of SDXL or another model of several text encoders", _OTHER_MODEL),
    r"transformer\..*|lora_transformer_.*|(lora_unet_|diffusion_model\.)(double|single|joint)_blocks.*": (
        "a LoRA of a transformer such as Flux or Stable Diffusion 3",
        _OTHER_MODEL,
    ),
    r".*attentions[._]\d.*transformer_blocks[._][1-9].*|.*put_blocks[._]\d.*transformer_blocks[._][1-9].*": (
        "a LoRA of SDXL",
        _OTHER_MODEL,
    ),
    r".*motion_modules[._].*": ("a LoRA of AnimateDiff's motion modules", _OTHER_MODEL),
    r"emb_params|string_to_param.*": ("a textual inversion", "These are not read."),
    r"(model\.diffusion_model\.input_blocks|first_stage_model)\..*(conv_in|in_layers\.\d+)\.weight": (
        "a whole model",
        "Pass it as the model instead.",
    ),
}
"""Keys by which they are known, what they are, and what to do. The first that fits is taken."""

_TO_CONTEXT = re.compile(r".*attn2[._](processor\.)?to_[kv].*(down|lora_A)\b.*weight")


def require_safetensors(file: Path) -> None:
    """Raises CheckpointError if a file is missing, or no safetensors."""
    if not file.exists():
        raise CheckpointError(f"{file} is missing. LoRAs are .safetensors files, or folders that `save_lora` wrote.")
    if file.suffix != ".safetensors":
        raise CheckpointError(
            f"{file} is no .safetensors, which LoRAs are read from alone: pickles (.pt, .ckpt, .bin) could run code. "
            "Take its .safetensors version, or save its tensors with safetensors.torch.save_file."
        )


def require_plain(stored: Tensors, context_dims: Mapping[str, int], file: Path) -> None:
    """Raises CheckpointError that says what a file is, unless it may be a plain LoRA for a model of these contexts."""
    for pattern, (what, advice) in _OTHERS.items():
        if any(re.fullmatch(pattern, key) for key in stored):
            raise CheckpointError(f"{file} is {what}, which does not fit here. {advice}")
    widths = {tensor.shape[1] for key, tensor in stored.items() if _TO_CONTEXT.fullmatch(key) and len(tensor.shape) > 1}
    own = sorted(set(context_dims.values()))
    if widths and not widths <= set(own):
        width = max(widths)
        raise CheckpointError(
            f"{file} is a LoRA of {WIDTHS.get(width, 'another model')}, whose cross-attention takes tokens of width "
            f"{width}; this model's are {' and '.join(map(str, own))} wide. {_OTHER_MODEL}"
        )
