"""Weights in fewer bits, through torchao: layers compute as before, from weights that are widened as they are read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from versatile_diffusion.kernels.optimization import restore

WEIGHTS = ("int8",)


def quantize(module: nn.Module) -> None:
    """Stores the weights of linear layers as int8, with a scale for each output of a layer.

    Convolutions, embeddings and normalisations stay as they are.

    Args:
        module: to be changed, on any device.

    Raises:
        ImportError: if torchao is missing.
    """
    try:
        from torchao.quantization import (  # pyright: ignore[reportMissingTypeStubs] - there are none
            Int8WeightOnlyConfig,
            quantize_,
        )
    except ImportError as error:
        raise ImportError("Weights in int8 need torchao: pip install 'versatile-diffusion[int8]'") from error
    # These settings are PyTorch's, for the whole process.
    quantize_(module, Int8WeightOnlyConfig(set_inductor_config=False))


def is_quantized(module: nn.Module) -> bool:
    """Tells whether some of a module's weights are not plain numbers."""
    return any(_is_quantized(parameter) for parameter in module.parameters())


def stored_bytes(module: nn.Module) -> int:
    """Returns how many bytes of memory a module's parameters take."""
    return sum(part.nbytes for parameter in module.parameters() for part in _parts(parameter))


def _is_quantized(tensor: Tensor) -> bool:
    return hasattr(tensor, "__tensor_flatten__")  # PyTorch's mark of a tensor that is made of others


def _parts(tensor: Tensor) -> list[Tensor]:
    """Returns the tensors that a tensor is stored as."""
    if not _is_quantized(tensor):
        return [tensor]
    subclass: Any = tensor  # of a type that has more methods
    names: list[str] = subclass.__tensor_flatten__()[0]
    return [getattr(tensor, name) for name in names]


def quantize_parts(diffuser: nn.Module, context_encoders: Iterable[nn.Module], weights: str = "int8") -> None:
    """Stores the weights of linear layers in fewer bits: those of a diffuser and of context encoders.

    Such a model makes outputs near to those of before, but cannot be saved, trained, given LoRAs or brought to another
    dtype. What `optimize` replaced in the diffuser is brought back first.

    Args:
        diffuser: to be changed.
        context_encoders: to be changed.
        weights: "int8".

    Raises:
        ValueError: if there are no such weights, a part holds LoRAs, or its weights are offloaded.
        ImportError: if torchao is missing.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"Weights are stored as {' or '.join(WEIGHTS)}, got {weights!r}.")
    parts = [diffuser, *context_encoders]
    if any(hasattr(part, "peft_config") for part in parts):
        raise ValueError("The model holds LoRAs: call `fuse_and_unload_lora` or `unload_lora` before `quantize`.")
    if any(parameter.is_meta for parameter in diffuser.parameters()):
        raise ValueError("The weights are away: call `quantize` before an `enable_…_offload`.")
    restore(diffuser)
    for module in parts:
        quantize(module)


def context_encoders(modalities: Iterable[nn.Module]) -> list[nn.Module]:
    """Returns the context encoders of those modalities that have one."""
    found = [getattr(modality, "context_encoder", None) for modality in modalities]
    return [encoder for encoder in found if isinstance(encoder, nn.Module)]
