"""Data of modalities as ComfyUI passes it from node to node.

An IMAGE is a tensor (b h w c) in [0, 1], a MASK one (b h w), AUDIO a dictionary with "waveform" (b c n) and
"sample_rate", a STRING a str. What ComfyUI has no type for goes under a type of its own, as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.sound_spec import SOUND
from versatile_diffusion.modalities.sounds import Sound
from versatile_diffusion.modalities.text_spec import TEXT

MASK = "MASK"


@dataclass(frozen=True)
class Socket:
    """How items of a modality come out of nodes and into them.

    Attributes:
        type: its name in ComfyUI.
        read: items of what another node made.
        show: what other nodes take, of items that were made.
        output_type: of the items that `show` takes.
        is_list: whether what `show` returns has an entry for each item, which nodes then take one by one.
    """

    type: str
    read: Callable[[Any], list[Any]]
    show: Callable[[Any], object]
    output_type: str = "pil"
    is_list: bool = False


def socket_of(modality: str) -> Socket:
    """Returns the socket of a modality."""
    return _SOCKETS.get(modality) or Socket(f"VD_{modality.upper()}", _as_list, _as_list, is_list=True)


def read_masks(masks: Float[Tensor, "b h w"] | Float[Tensor, "h w"]) -> list[Tensor]:
    """Returns the masks (h w) of a batch, of which 1 is what is to be seen."""
    return list(masks if masks.ndim == 3 else masks[None])


def _read_images(images: Float[Tensor, "b h w c"]) -> list[Tensor]:
    return list(images.movedim(-1, 1))


def _show_images(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w c"]:
    return images.movedim(1, -1).float().cpu().contiguous()


def _read_sounds(audio: dict[str, Any]) -> list[Sound]:
    return [Sound(samples, audio["sample_rate"]) for samples in audio["waveform"]]


def _show_sounds(sounds: Sequence[Sound]) -> dict[str, object]:
    longest = max(sound.samples.shape[1] for sound in sounds)
    samples = [torch.as_tensor(sound.in_length(longest).samples) for sound in sounds]
    return {"waveform": torch.stack(samples), "sample_rate": sounds[0].rate}


def _as_list(data: object) -> list[object]:
    return list(cast("Sequence[object]", data)) if isinstance(data, list | tuple) else [data]


_SOCKETS = {
    IMAGE.name: Socket("IMAGE", _read_images, _show_images, output_type="pt"),
    TEXT.name: Socket("STRING", _as_list, _as_list, is_list=True),
    SOUND.name: Socket("AUDIO", _read_sounds, _show_sounds),
}
