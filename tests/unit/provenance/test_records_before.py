"""Outputs of the version before the record derived from the request: `written_before/` holds one of each kind.

They were made by the bundled model with 2 to 4 steps, in batches with and without remainders, in float32 and bfloat16.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.devices import DTYPES, computes_bf16
from versatile_diffusion.provenance.comparison import compared
from versatile_diffusion.provenance.output_files import read_outputs
from versatile_diffusion.provenance.record import CHUNK
from versatile_diffusion.provenance.replay import replayed

ROUNDING = {"fp32": (2, 0.5), "bf16": (8, 1.5) if computes_bf16(torch.device("cpu")) else (20, 2.0)}
"""How far pictures may be apart, at most and on average, of 255: other processors round otherwise, and those that
emulate bfloat16 are as far from those that compute it as float32 is."""
FILES = sorted((Path(__file__).parent / "written_before").iterdir())


def written(file: Path) -> list[dict[str, Any]]:
    """The records of a file as they stand in it."""
    if file.suffix == ".json":
        return [one[CHUNK] for one in json.loads(file.read_text())]
    return [json.loads(Image.open(file).info[CHUNK])]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_record_is_written_as_it_was_read(file: Path) -> None:
    found = read_outputs(file)
    assert [json.loads(stored.json) for stored, _ in found] == written(file)
    assert [stored.missing for stored, _ in found] == [[]] * len(found)


@pytest.fixture(scope="module")
def opened() -> dict[str, VersatileDiffusionPipeline]:
    """The bundled model as commands open it, in each number format."""
    pipes: dict[str, VersatileDiffusionPipeline] = {}
    for name in ("fp32", "bf16"):
        pipes[name] = VersatileDiffusionPipeline.from_pretrained("postcards", torch_dtype=DTYPES[name])
        pipes[name].set_progress_bar_config(disable=True)
        pipes[name].pack()
    return pipes


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_was_made_before_is_made_again(opened: dict[str, VersatileDiffusionPipeline], file: Path) -> None:
    for stored, before in read_outputs(file):
        now = replayed(opened[stored.record.computed.dtype], stored)
        if isinstance(before, Image.Image):
            apart = np.abs(np.asarray(before, int) - np.asarray(now, int))
            most, on_average = ROUNDING[stored.record.computed.dtype]
            assert apart.max() <= most and apart.mean() <= on_average, compared(before, now)
        else:
            assert now == before
