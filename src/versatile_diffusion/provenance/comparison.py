# pyright: strict
"""Whether an output that was made again is the same, and why it may not be."""

from __future__ import annotations

from typing import NotRequired, TypedDict

import numpy as np
from PIL import Image

from versatile_diffusion.provenance.record import Computed


class Comparison(TypedDict):
    """How an output compares with the one before.

    Attributes:
        same: True or False; None where nobody has the one before.
        difference: of images, the largest, in levels of 255; of other numbers, the largest.
        verdict: in words.
    """

    same: bool | None
    difference: NotRequired[float]
    verdict: str


def compared(before: object, now: object) -> Comparison:
    """Returns how an output compares with the one before, which is None where nobody has it."""
    if before is None:
        return {"same": None, "verdict": "Made again. The one before is not at hand to compare with."}
    if isinstance(now, str):
        same = before == now
        return {"same": same, "verdict": "The same text, word for word." if same else f"Another text; it was: {before}"}
    if isinstance(before, Image.Image) and isinstance(now, Image.Image):
        return _compared_images(before, now)
    return _compared_values(np.asarray(before), np.asarray(now))


def differences(before: Computed, now: Computed) -> list[str]:
    """Returns what was not as before, each in a sentence."""
    names = {
        "model": "the model",
        "loras": "the LoRAs",
        "weights": "how weights are stored",
        "backend": "what computes the diffuser instead of PyTorch",
        "device": "the device",
        "dtype": "the number format",
        "version": "the version of versatile-diffusion",
        "torch": "the version of PyTorch",
    }
    changed = [(what, getattr(before, name), getattr(now, name)) for name, what in names.items()]
    return [
        f"It was made otherwise: {what} was {was or 'none'}, now it is {is_ or 'none'}."
        for what, was, is_ in changed
        if was != is_
    ]


def _compared_images(before: Image.Image, now: Image.Image) -> Comparison:
    if before.size != now.size:
        return _compared_sizes(before, now)
    apart = np.abs(np.asarray(before.convert("RGB"), int) - np.asarray(now.convert("RGB"), int))
    largest, share = int(apart.max()), float((apart.max(axis=-1) > 0).mean())
    if not largest:
        return {"same": True, "difference": 0, "verdict": "The same picture, pixel for pixel."}
    how = "The same but for rounding" if largest == 1 else "Not the same picture"
    verdict = f"{how}: {share:.1%} of the pixels differ, by {largest}/255 at most."
    return {"same": False, "difference": largest, "verdict": verdict}


def _compared_sizes(before: Image.Image, now: Image.Image) -> Comparison:
    """How images of two sizes compare. The server may have resampled the one before to what its client asked for."""
    size = "×".join(map(str, before.size))
    resampled = _compared_images(before, now.resize(before.size, Image.Resampling.LANCZOS))
    if resampled.get("difference", 0) > 1:
        return {"same": False, "verdict": f"A picture of another size: it had {size} pixels."}
    verdict = f"{resampled['verdict'].removesuffix('.')}, once it is resampled to {size} as that was."
    return {**resampled, "verdict": verdict}


def _compared_values(before: np.ndarray, now: np.ndarray) -> Comparison:
    """How two items compare that are neither words nor images."""
    if before.shape != now.shape:
        verdict = f"It has another size: it had the shape {'×'.join(map(str, before.shape))}."
        return {"same": False, "verdict": verdict}
    largest = float(np.abs(before.astype(float) - now.astype(float)).max(initial=0))
    if not largest:
        return {"same": True, "difference": 0, "verdict": "The same, value for value."}
    return {"same": False, "difference": largest, "verdict": f"Not the same: values differ by {largest:g} at most."}
