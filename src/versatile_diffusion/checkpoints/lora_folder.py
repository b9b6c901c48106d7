"""What our own folder of a LoRA holds."""

from __future__ import annotations

import shutil
from pathlib import Path

CONFIG, WEIGHTS, FORMAT = "config.json", "lora.safetensors", 1
FEW_STEPS = "few_steps"
"""What the configuration calls how it samples, if it was distilled to few steps."""


def copy_lora(source: Path, target: Path) -> None:
    """Copies a LoRA of ours, and nothing else that lies in its folder, to a new one."""
    target.mkdir()
    for name in (CONFIG, WEIGHTS):
        shutil.copy2(source / name, target / name)
