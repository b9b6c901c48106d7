"""The blocks of docs/brain-decoding-migration.md marked <!-- test --> run as they stand, on a tiny model."""

import re
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from tests.parity.small_pipelines import built
from versatile_diffusion import VersatileDiffusionPipeline

PAGE = Path(__file__).parents[2] / "docs" / "brain-decoding-migration.md"
BLOCKS = re.findall(r"<!-- test -->\n```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
TOKENS = 77 + 257


def test_the_loop_and_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    built(diffusers, "").save_pretrained("hub")
    names: dict[str, Any] = {"vd_cache_dir": Path("hub"), "device": "cpu", "samples": 2}
    names["embeddings"] = torch.randn(4, TOKENS, 24)
    exec(compile(BLOCKS[0], str(PAGE), "exec"), names)
    assert names["images"].shape == (2, 3, 16, 16) and names["images"].isfinite().all()

    before = torch.randn(2, 257, 24)
    names["brain_embedding"] = torch.nn.Parameter(before.clone())
    names |= {"noisy_latents": torch.randn(2, 4, 8, 8), "noise": torch.randn(2, 4, 8, 8)}
    names["timesteps"] = torch.tensor([3, 700])
    exec(compile(BLOCKS[2], str(PAGE), "exec"), names)
    assert not torch.equal(names["brain_embedding"], before)
    assert len(names["learned"]) == 1 + 2 * 4 * 2 * 4
    assert list(Path("my-lora").glob("*.safetensors"))
    names["unet"].enable_xformers_memory_efficient_attention()


def test_one_call(pipe: VersatileDiffusionPipeline) -> None:
    rng = np.random.default_rng(0)
    names: dict[str, Any] = {
        "pipe": pipe,
        "predicted_image": rng.standard_normal((2, 5, 24)),
        "predicted_text": rng.standard_normal((2, 16, 24)),
        "guesses": rng.standard_normal((2, 4, 16, 16)),
    }
    exec(compile(BLOCKS[1], str(PAGE), "exec"), names)
    assert [len(row) for row in names["made"].images] == [1, 1]
    assert len(BLOCKS) == 3
