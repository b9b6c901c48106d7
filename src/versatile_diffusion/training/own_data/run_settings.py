"""The settings of a run as its folder keeps them: what it is, and what it may go on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import yaml

from versatile_diffusion.checkpoints.lora_folder import WEIGHTS
from versatile_diffusion.files import write_whole
from versatile_diffusion.training.own_data.trained_layers import LORA
from versatile_diffusion.training.settings.config import read_settings
from versatile_diffusion.training.settings.training_settings import MAY_CHANGE, MAY_CHANGE_UNTIL_DONE, TrainingSettings
from versatile_diffusion.validation import checked

SETTINGS, MODEL = "run.yaml", "model"
"""What lies in the folder of a run: its settings, and the model that was trained, unless that is a LoRA."""


def require_same_run(settings: TrainingSettings, folder: Path) -> None:
    """Raises ValueError if a folder holds a run of other settings than these, but for those that may change."""
    file = folder / SETTINGS
    if not file.exists():
        return
    before = _read(settings, file)
    done = any((folder / made).exists() for made in (LORA, MODEL, WEIGHTS))
    free = MAY_CHANGE if done else (*MAY_CHANGE, *MAY_CHANGE_UNTIL_DONE)
    changed = [
        f"{name} was {_told(getattr(before, name))} and is {_told(getattr(settings, name))}"
        for name in type(settings).model_fields
        if name not in free and getattr(before, name) != getattr(settings, name)
    ]
    if changed:
        raise ValueError(
            f"{folder} is a run with other settings: {', '.join(changed)}. Give the same to go on, or another --output."
        )


def write_settings(settings: TrainingSettings, file: Path) -> None:
    """Writes settings so that `vd train FILE` reads them."""
    values = json.loads(settings.model_dump_json())
    write_whole(file, yaml.safe_dump(values, sort_keys=False, allow_unicode=True).encode())


def _read(settings: TrainingSettings, file: Path) -> TrainingSettings:
    """What the file says, which must be settings of the same kind of run."""
    values = read_settings(file)
    kind = type(settings)
    if other := [name for name in values if name not in kind.model_fields]:
        raise ValueError(
            f"{file.parent} is a run of another kind, which has {', '.join(other)}: take another --output."
        )
    return checked(kind, values)


def _told(value: object) -> str:
    return " ".join(map(str, cast("tuple[object, ...]", value))) or "all" if isinstance(value, tuple) else str(value)
