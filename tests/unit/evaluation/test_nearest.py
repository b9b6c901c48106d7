import numpy as np
import torch

from versatile_diffusion.evaluation import nearest as module
from versatile_diffusion.evaluation.nearest import nearest


def test_what_was_learnt_is_found_again(monkeypatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 7)
    learnt = np.random.default_rng(0).integers(0, 256, (30, 32, 24, 3), dtype=np.uint8)
    chosen = [29, 0, 13]
    noise = 0.02 * torch.randn(3, 3, 32, 24, generator=torch.Generator().manual_seed(0))
    images = torch.tensor(learnt[chosen]).permute(0, 3, 1, 2) / 255 + noise
    compared: list[int] = []
    assert nearest(images, learnt, compared.append).tolist() == chosen
    assert sum(compared) == len(learnt)
