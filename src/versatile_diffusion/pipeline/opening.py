"""What `from_pretrained` takes beside the model: what people pass to diffusers' has its meaning here, or is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from pydantic import ConfigDict

from versatile_diffusion.checkpoints.weight_files import FileOptions
from versatile_diffusion.devices import choose_device
from versatile_diffusion.validation import Strict, checked

_SPELLINGS = {
    **dict.fromkeys(("float32", "fp32", "float"), torch.float32),
    **dict.fromkeys(("float16", "fp16", "half"), torch.float16),
    **dict.fromkeys(("bfloat16", "bf16"), torch.bfloat16),
    **dict.fromkeys(("float64", "double"), torch.float64),
}

_MET = (
    *("low_cpu_mem_usage", "disable_mmap", "use_flashpack", "offload_state_dict", "offload_folder", "max_memory"),
    *("requires_safety_checker", "load_connected_pipeline", "trust_remote_code", "output_loading_info", "mirror"),
)
"""Options that nothing is lost without: weights are never held twice, and a model brings no code."""

_REFUSED = {
    "safety_checker": "There is no safety checker in these pipelines: check what they make yourself.",
    "proxies": "Set the environment variable HTTPS_PROXY instead.",
    "quantization_config": "Call `pipe.quantize()` once it is open.",
    "custom_pipeline": "Code from elsewhere is not run.",
    "custom_revision": "Code from elsewhere is not run.",
    "use_onnx": "ONNX is not read.",
    "provider": "ONNX is not read.",
    "sess_options": "ONNX is not read.",
    "provider_options": "ONNX is not read.",
    **dict.fromkeys(
        ("unet", "image_unet", "text_unet", "vae", "text_encoder", "image_encoder", "tokenizer", "feature_extractor"),
        "Open the model as it is, and change `pipe.diffuser` or `pipe.modalities`; `versatile_diffusion.compat` has "
        "the components of diffusers' pipelines.",
    ),
}
"""Options that would change something here, if they were not refused, and what to do instead."""


class OpeningOptions(Strict):
    """Options of diffusers' `from_pretrained` that mean the same here; see `FileOptions`.

    Attributes:
        use_auth_token: the former name of `token`.
        device_map: the device to bring the pipeline to.
        scheduler: to be used instead of the model's.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    variant: str | None = None
    use_safetensors: bool | None = None
    revision: str | None = None
    cache_dir: str | Path | None = None
    token: str | bool | None = None
    use_auth_token: str | bool | None = None
    local_files_only: bool | None = None
    force_download: bool | None = None
    device_map: str | torch.device | None = None
    scheduler: SchedulerMixin | None = None

    @classmethod
    def of(cls, given: Mapping[str, object]) -> OpeningOptions:
        """Reads keyword arguments.

        Raises:
            TypeError: if there is no such option.
            ValueError: if one asks for what is not done here; the message says what to do.
        """
        asked = {name: value for name, value in given.items() if name in _REFUSED and value not in (None, False)}
        for name in asked:
            raise ValueError(f"from_pretrained does not take {name} here. {_REFUSED[name]}")
        known = {name: value for name, value in given.items() if name in cls.model_fields}
        if unknown := given.keys() - known.keys() - {*_MET, *_REFUSED}:
            raise TypeError(
                f"from_pretrained has no option {', '.join(sorted(unknown))}, only torch_dtype, flows, modalities, "
                f"{', '.join(cls.model_fields)}."
            )
        return checked(cls, known)

    @property
    def files(self) -> FileOptions:
        """Which files to take, and where from."""
        values = {field.name: getattr(self, field.name) for field in fields(FileOptions)}
        values |= {"token": self.use_auth_token if self.token is None else self.token}
        return FileOptions(**{name: value for name, value in values.items() if value is not None})

    @property
    def device(self) -> torch.device | None:
        """Where to bring the pipeline.

        Raises:
            ValueError: if that is not one device, or is not here.
        """
        if self.device_map is None or isinstance(self.device_map, torch.device):
            return self.device_map
        if self.device_map in ("balanced", "auto", "sequential", "balanced_low_0"):
            raise ValueError(
                f"device_map={self.device_map!r} is not done here: name one device, or leave it out and call "
                "`pipe.enable_model_cpu_offload()`."
            )
        return choose_device(self.device_map)


def as_dtype(value: object) -> torch.dtype | None:
    """Returns the dtype that a dtype or its name says; None for None and "auto", which is as a model was saved.

    Raises:
        ValueError: if it is no dtype of floating-point numbers.
    """
    named = value.removeprefix("torch.").lower() if isinstance(value, str) else value
    if named is None or named == "auto":
        return None
    dtype = _SPELLINGS.get(named) if isinstance(named, str) else named
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
        return dtype
    raise ValueError(
        f"torch_dtype must be one such as torch.float16 or 'float16', for the whole model, got {value!r:.80}."
    )
