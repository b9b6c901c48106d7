"""The settings of a run as its folder keeps them: what it is, and what it may go on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import cast

import yaml

from versatile_diffusion.checkpoints.lora_folder import WEIGHTS
from versatile_diffusion.files import write_whole
from versatile_diffusion.training.own_data.trained_layers import LORA
from versatile_diffusion.training.report.run_page import SHEETS
from versatile_diffusion.training.settings.config import read_settings
from versatile_diffusion.training.settings.training_settings import MAY_CHANGE, MAY_CHANGE_UNTIL_DONE, TrainingSettings
from versatile_diffusion.validation import checked

SETTINGS, START, MODEL = "run.yaml", "start", "model"
"""What lies in the folder of a run: its settings, the model that it began from if that was put together, and the model
that was trained, unless that is a LoRA."""


def require_same_run(settings: TrainingSettings, folder: Path) -> None:
    """Raises ValueError if a run of other settings than these, but for those that may change, was begun in a folder."""
    file = folder / SETTINGS
    if not (file.exists() and is_begun(folder)):
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


def is_begun(folder: Path) -> bool:
    """Tells whether anything was trained in the folder of a run, in itself or in the folders of its stages."""
    return any(any(folder.glob(f"{depth}step-*/")) for depth in ("*/", "*/*/"))


def clear_run(settings: TrainingSettings, folder: Path) -> None:
    """Removes from a folder what a run of other settings left there before anything was trained."""
    file = folder / SETTINGS
    if file.exists() and file.read_bytes() != _written(settings) and not is_begun(folder):
        for name in (START, SHEETS):
            shutil.rmtree(folder / name, ignore_errors=True)


def write_settings(settings: TrainingSettings, file: Path) -> None:
    """Writes settings so that `vd train FILE` reads them."""
    write_whole(file, _written(settings))


def _written(settings: TrainingSettings) -> bytes:
    values = json.loads(settings.model_dump_json())
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True).encode()


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
