"""What files of other models are, by name, and why they do not open here."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from versatile_diffusion.checkpoints.errors import CheckpointError, first_few

_TAKE = "Take Versatile Diffusion, or Stable Diffusion v1 for text to image."

_CHANNELS = {
    5: "a depth-to-image model (its U-Net takes 5 channels: the latent and a depth map)",
    7: "an upscaler (its U-Net takes 7 channels: the latent and a small picture)",
    8: "InstructPix2Pix or another that takes a picture as well (its U-Net takes 8 channels: two latents)",
    9: "an inpainting model (its U-Net takes 9 channels: the latent, a mask and what the mask leaves)",
}
"""Kin of Stable Diffusion, by the channels that go into their U-Nets."""

WIDTHS = {768: "Stable Diffusion v1", 1024: "Stable Diffusion 2", 1280: "SDXL's refiner", 2048: "SDXL"}
"""Families of models, by the width of what their cross-attention attends to."""

# Keys by which models are known, in files that hold one whole or a part of one alone. The first that fits is taken.
_MODELS: Mapping[str, str] = {
    r"(model\.)?(diffusion_model\.)?(double_blocks|single_blocks|transformer_blocks)\..*": "a transformer such as Flux",
    r"(model\.diffusion_model\.)?(joint_blocks|joint_transformer_blocks)\..*": "Stable Diffusion 3",
    r"conditioner\.embedders\..*|model\.diffusion_model\.label_emb\..*|add_embedding\..*": "SDXL",
    r"cond_stage_model\.model\..*": "Stable Diffusion 2",
    r"control_model\..*|controlnet_cond_embedding\..*": "a ControlNet",
    r"(down_blocks\..*|mid_block\..*)motion_modules\..*": "a motion module of AnimateDiff",
    r".*(lora_(down|up|A|B|linear_layer)|lora\.(down|up)|hada_w1_a|lokr_w1).*": "a LoRA",
    r"emb_params|string_to_param.*": "a textual inversion",
    r"(down_blocks|time_embedding)\..*": "a U-Net alone",
    r"(first_stage_model\.)?(decoder\.(up|up_blocks|mid)|encoder\.(down|down_blocks))\..*": "an autoencoder alone",
    r"(cond_stage_model\.transformer\.)?(text_model|vision_model|visual_projection)\..*": "CLIP alone",
    r"(encoder\.(bert|embeddings|encoder)|decoder\.transformer)\..*": "Optimus alone",
}
_SUFFIXES: Mapping[str, str] = {
    **dict.fromkeys((".gguf", ".ggml"), "in llama.cpp's format (GGUF)"),
    **dict.fromkeys((".onnx", ".xml", ".engine", ".trt", ".tflite", ".mlmodel"), "a compiled or exported model"),
    **dict.fromkeys((".h5", ".msgpack", ".npz", ".npy"), "a file of another library than PyTorch"),
    **dict.fromkeys((".rar", ".zip", ".7z", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".zst"), "an archive"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"), "a picture"),
    **dict.fromkeys((".json", ".yaml", ".yml", ".txt", ".md", ".py", ".toml"), "a text"),
}
_SAYING = {
    "an archive": "Unpack it, and pass what was in it.",
    "a text": "Pass the folder of the model that it belongs to.",
    "a LoRA": "Open the model that it changes, and give it the LoRA with --lora or `pipe.load_lora`.",
    "a textual inversion": "These are not read. Take a model or a LoRA.",
}
_WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")


def require_text_to_image(keys: Collection[str], first_layer: tuple[int, ...], where: object) -> None:
    """Raises CheckpointError that names the model, if a file is kin of Stable Diffusion v1."""
    require_channels(first_layer[1], where)
    found = next((what for pattern, what in _MODELS.items() if what != "a LoRA" and _among(pattern, keys)), "")
    if found in ("SDXL", "Stable Diffusion 2", "a ControlNet"):
        raise CheckpointError(f"{where} is {found}, which does not open here. {_TAKE}")


def require_channels(channels: object, where: object) -> None:
    """Raises CheckpointError that names the model, if a U-Net takes more than a latent."""
    if isinstance(channels, int) and channels in _CHANNELS:
        raise CheckpointError(f"{where} is {_CHANNELS[channels]}, which does not open here. {_TAKE}")


def family_of(width: object) -> str:
    """Returns ", of FAMILY" for models whose cross-attention takes tokens of that width; "" if it is not known."""
    family = WIDTHS.get(width) if isinstance(width, int) else None
    return f", of {family}" if family else ""


def unknown_tensors(keys: Collection[str], where: object) -> CheckpointError:
    """Returns the error that says what a file of tensors is, which is no model that opens."""
    what = next((what for pattern, what in _MODELS.items() if _among(pattern, keys)), None)
    if what is None:
        what = f"of no model that is known: it holds {first_few(keys) or 'no tensors'}"
    alone = "Pass a folder of all parts of the model, or a file that holds them all." if "alone" in what else _TAKE
    return CheckpointError(f"{where} is {what}. {_SAYING.get(what, alone)}")


def unlike_weights(name: str, first: bytes) -> str | None:
    """Returns what a file is that is not of a kind that weights are in; None if it may be of one.

    Args:
        name: of the file.
        first: its first bytes. What PyTorch saves under any name begins as an archive or as a pickle.
    """
    suffix = name.lower()[name.rfind(".") :] if "." in name else ""
    if suffix in _WEIGHTS:
        return None
    if suffix in _SUFFIXES:
        what = _SUFFIXES[suffix]
    elif first.startswith((b"PK\x03\x04", b"\x80\x02")):
        return None
    else:
        what = "of no kind that holds weights"
    saying = _SAYING.get(what, f"Models are folders or files such as {', '.join(_WEIGHTS[:4])}.")
    return f"is {what}. {saying}"


def _among(pattern: str, keys: Collection[str]) -> bool:
    return any(re.fullmatch(pattern, key) for key in keys)
