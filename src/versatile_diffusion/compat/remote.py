"""What the code in a saved folder stands for, when diffusers opens it; see `checkpoints.remote_code`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import nn

from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline


class SavedModel(nn.Module):
    """A model that lies in a folder. diffusers takes it for a component, and tells it where it is.

    Attributes:
        folder: of the whole model.
        torch_dtype: of the weights that are to be read.
    """

    def __init__(self, folder: Path, torch_dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.torch_dtype = torch_dtype

    @classmethod
    def from_pretrained(cls, folder: str | Path, torch_dtype: torch.dtype | None = None, **options: object) -> Self:
        """Returns the model that the folder of a component belongs to; nothing is read yet."""
        return cls(Path(folder).parent, torch_dtype)


class RemotePipeline(VersatileDiffusionPipeline):
    """What diffusers calls with the components of a saved folder. It answers with a `VersatileDiffusionPipeline`.

    Args:
        diffuser: the model.
        scheduler: to be used with it.
        flows: names such as "text-to-image": only what these need is read.
    """

    def __new__(cls, diffuser: SavedModel, scheduler: Any, flows: Sequence[str] | None = None) -> Any:
        """Opens the model."""
        return VersatileDiffusionPipeline.from_pretrained(
            diffuser.folder, diffuser.torch_dtype, flows, scheduler=scheduler
        )

    def __init__(self, diffuser: SavedModel, scheduler: Any, flows: Sequence[str] | None = None) -> None:
        """diffusers reads from the signature what it is to pass; what `__new__` returns is not initialised again."""
        raise NotImplementedError

    @classmethod
    def extract_init_dict(cls, config_dict: Mapping[str, Any], **options: Any) -> Any:
        """Reads the index, without the parts that are only listed to be downloaded."""
        told = {name: value for name, value in config_dict.items() if name in ("_class_name", "diffuser", "scheduler")}
        return cast(Any, super()).extract_init_dict(told, **options)  # untyped in diffusers
