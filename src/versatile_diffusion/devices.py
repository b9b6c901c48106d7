"""Where to compute, and in what."""

from __future__ import annotations

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """Returns the device of that name; "auto" is the first there is of CUDA, MPS and the CPU.

    Raises:
        ValueError: if there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if _has("cuda") else "mps" if _has("mps") else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{name!r} is not a device: take auto, cuda, cuda:1, mps or cpu.") from None
    if device.type != "cpu" and not _has(device.type):
        raise ValueError(f"There is no {device.type} device here: take auto or cpu.")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Returns the dtype called fp32, bf16 or fp16.

    "auto" is float16 on an accelerator, on the CPU bfloat16 if it has instructions for it, else float32.

    Raises:
        ValueError: if there is no such dtype.
    """
    if name == "auto":
        name = "fp16" if device.type != "cpu" else "bf16" if computes_bf16(device) else "fp32"
    if name not in DTYPES:
        raise ValueError(f"{name!r} is not a dtype: take auto, {', '.join(DTYPES)}.")
    return DTYPES[name]


def computes_bf16(device: torch.device | None = None) -> bool:
    """Tells whether a device has instructions for bfloat16, which is slower than float32 where they are emulated."""
    device = device or choose_device()
    match device.type:
        case "cuda":
            return torch.cuda.is_bf16_supported(including_emulation=False)
        case "cpu":
            tells = torch.cpu  # PyTorch has no public way to ask
            return any(getattr(tells, name)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        case _:
            return False


def _has(kind: str) -> bool:
    match kind:
        case "cuda":
            return torch.cuda.is_available()
        case "mps":
            return torch.backends.mps.is_available()
        case _:
            return hasattr(torch, kind) and getattr(torch, kind).is_available()
