"""Whether an output that was made again is the same, and why it may not be."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from versatile_diffusion.provenance.record import Computed


def compared(before: Any, now: Any) -> dict[str, Any]:
    """How an output compares with the one before, which is None where nobody has it.

    Returns:
        same: True, False or None; difference: of pictures, the largest, in levels of 255; verdict: in words.
    """
    if before is None:
        return {"same": None, "verdict": "Made again. The one before is not at hand to compare with."}
    if isinstance(now, str):
        same = before == now
        return {"same": same, "verdict": "The same text, word for word." if same else f"Another text; it was: {before}"}
    if not isinstance(before, Image.Image) or before.size != now.size:
        return {
            "same": False,
            "verdict": f"A picture of another size: it had {'×'.join(map(str, before.size))} pixels.",
        }
    apart = np.abs(np.asarray(before.convert("RGB"), int) - np.asarray(now.convert("RGB"), int))
    largest, share = int(apart.max()), float((apart.max(axis=-1) > 0).mean())
    if not largest:
        return {"same": True, "difference": 0, "verdict": "The same picture, pixel for pixel."}
    how = "The same but for rounding" if largest == 1 else "Not the same picture"
    verdict = f"{how}: {share:.1%} of the pixels differ, by {largest}/255 at most."
    return {"same": False, "difference": largest, "verdict": verdict}


def differences(before: Computed, now: Computed) -> list[str]:
    """What was not as before, each in a sentence."""
    names = {
        "model": "the model",
        "loras": "the LoRAs",
        "weights": "how weights are stored",
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
