"""Golden files: inputs and outputs of the official code, and its deterministic weights (tests/golden/README.md)."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(os.environ.get("VD_GOLDEN_DIR") or Path(__file__).parents[1] / "golden")
_TIES = {"decoder.lm_head.weight": "decoder.transformer.wte.weight"}


@dataclass(frozen=True)
class Golden:
    """One pair of files. Either is empty where there is no such file."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]

    def weights(self) -> dict[str, Tensor]:
        """The weights that the outputs were computed with, under the official keys."""
        return weights(self.config["keys"], self.config["seed"])


def read(name: str) -> Golden:
    """Reads NAME.json and NAME.safetensors, of which one may be missing."""
    config, tensors = FOLDER / f"{name}.json", FOLDER / f"{name}.safetensors"
    if not (config.exists() or tensors.exists()):
        raise FileNotFoundError(f"no golden files {name} in {FOLDER}")
    return Golden(
        json.loads(config.read_text()) if config.exists() else {}, load_file(tensors) if tensors.exists() else {}
    )


def weights(keys: Mapping[str, Sequence[int]], seed: int) -> dict[str, Tensor]:
    """The deterministic weights of these official keys and shapes."""
    made = {key: _weight(key, tuple(shape), seed) for key, shape in keys.items()}
    return {key: made[_TIES[key]] if _TIES.get(key) in made else value for key, value in made.items()}


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest absolute error over the largest absolute value expected."""
    assert actual.shape == expected.shape, f"{tuple(actual.shape)} is not {tuple(expected.shape)}"
    error = (actual.detach().double() - expected.double()).abs().max()
    return float(error / expected.double().abs().max().clamp_min(1e-12))


def _weight(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    if key.endswith("position_ids"):  # a buffer: keeps its own values, as the causal mask does
        return torch.arange(shape[-1]).expand(shape)
    if key.endswith("attn.bias") and len(shape) == 4:
        return torch.ones(shape).tril()
    philox = np.random.Philox(key=(seed << 32) | zlib.crc32(key.encode()))
    noise = np.random.Generator(philox).standard_normal(shape or (1,)).astype(np.float32).reshape(shape)
    if len(shape) > 1:
        return torch.from_numpy(noise / np.float32(math.sqrt(math.prod(shape[1:]))))
    return torch.from_numpy(np.asarray(1 + 0.1 * noise if key.endswith("weight") else 0.05 * noise, dtype=np.float32))
