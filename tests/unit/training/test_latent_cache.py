from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from versatile_diffusion.flows import Flow
from versatile_diffusion.training.stages.latent_cache import LatentCache


class Counted:
    """Encodes samples as their numbers, and counts how often it is asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []
        self.fails_at: int | None = None

    def __call__(self, start: int, stop: int) -> Tensor:
        if start == self.fails_at:
            raise KeyboardInterrupt
        self.calls.append((start, stop))
        return torch.arange(start, stop)[:, None].float()


def cache(folder: Path, encode: Counted, origin: str = "here", count: int = 5) -> LatentCache:
    encoders = {"image/latents": encode, "image/tokens": lambda start, stop: encode(start, stop)[:, None]}
    return LatentCache(count, encoders, lambda part: origin, lambda flow: torch.zeros(1, 1, 1), folder, batch_size=2)


def test_parts_are_computed_once_and_kept_in_half_precision(tmp_path: Path) -> None:
    encode = Counted()
    rows = cache(tmp_path, encode).part("image/latents")
    assert encode.calls == [(0, 2), (2, 4), (4, 5)] and rows.dtype == torch.float16
    assert torch.equal(cache(tmp_path, encode).part("image/latents"), rows) and len(encode.calls) == 3
    assert rows.flatten().tolist() == [0, 1, 2, 3, 4]


def test_parts_of_another_origin_are_computed_anew(tmp_path: Path) -> None:
    encode = Counted()
    cache(tmp_path, encode).part("image/latents")
    cache(tmp_path, encode, origin="elsewhere").part("image/latents")
    assert len(encode.calls) == 6


def test_what_was_interrupted_is_not_taken_for_whole(tmp_path: Path) -> None:
    encode = Counted()
    encode.fails_at = 4
    with pytest.raises(KeyboardInterrupt):
        cache(tmp_path, encode).part("image/latents")
    encode.fails_at = None
    assert cache(tmp_path, encode).part("image/latents").flatten().tolist() == [0, 1, 2, 3, 4]


def test_samples_need_no_variants(tmp_path: Path) -> None:
    index = torch.tensor([3, 1])
    latents, tokens = cache(tmp_path, Counted()).pairs(Flow("image", "image"), index, Generator().manual_seed(0))
    assert latents.flatten().tolist() == tokens.flatten().tolist() == [3, 1] and latents.dtype == torch.float32


def test_nothing_cannot_be_encoded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no samples"):
        cache(tmp_path, Counted(), count=0).part("image/latents")
