"""What models of emoji are measured on: images of the data set that are not learnt from, and what they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from versatile_diffusion.checkpoints.sources import locate
from versatile_diffusion.worlds.emoji.data.split import EmojiSplit
from versatile_diffusion.worlds.emoji.data.things import THINGS
from versatile_diffusion.worlds.emoji.training_data import EmojiData

WRITTEN = Path("data", "emoji")
"""Where `vd data emoji` writes the data set by default."""


@dataclass(frozen=True)
class Measured:
    """Some images of a part of the data set.

    Attributes:
        images: in [0, 1].
        texts: one of each, that leaves out nothing.
        labels: see `EmojiData.labels`.
        by_hand, by_treatment: whether the thing by this hand, and in this treatment, is never learnt from.
    """

    images: Sequence[Float[Tensor, "3 h w"]]
    texts: Sequence[str]
    labels: Int64[Tensor, "n 3"]
    by_hand: Sequence[bool]
    by_treatment: Sequence[bool]


def find_data(model: str) -> Path:
    """Returns the folder of the data set: that of the run which made the model, or what `vd data emoji` wrote here.

    Args:
        model: what the user calls the model.

    Raises:
        FileNotFoundError: if there is none.
    """
    places = (locate(model).parent / "data", WRITTEN)
    found = next((place for place in places if (place / THINGS).is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"Models of emoji are measured on their data set, which is neither in {places[0]} nor in {places[1]}. "
            "Write it first: vd data emoji"
        )
    return found


def draw_measured(data: Path, split: EmojiSplit, num: int, seed: int, skip: int = 0) -> Measured:
    """Returns images of a part, drawn with a seed.

    Args:
        data: the folder of the data set.
        split: the part.
        num: how many; as many as there are if these are fewer.
        seed: equal ones give equal images.
        skip: how many to leave out, which another call has drawn.
    """
    part = EmojiData(data, split)
    order = np.random.default_rng((seed, list(EmojiSplit).index(split))).permutation(len(part))
    chosen: list[int] = order[skip : skip + num].tolist()
    lines = [part.lines[i] for i in chosen]
    return Measured(
        [part.image_items(i, i + 1)[0] for i in chosen],
        [part.text_items(i, i + 1)[part.roles.complete[-1]] for i in chosen],
        part.labels[torch.tensor(chosen)],
        [bool(line["holds_out_hand"]) for line in lines],
        [bool(line["holds_out_treatment"]) for line in lines],
    )
