"""What a model makes of many items, so that equal seeds give equal figures whatever the batch size."""

from __future__ import annotations

from collections.abc import Generator as Yields
from contextlib import contextmanager

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Generator

from versatile_diffusion.pipeline.pipeline import FlowPipeline


def seed_of(*key: int) -> int:
    """Returns a seed for each key, unlike those of all other keys."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def generators(*key: int, start: int, count: int) -> list[Generator]:
    """Returns generators of the outputs from `start` on, each with a seed of its own, unlike those of other keys."""
    return [Generator().manual_seed(seed_of(*key, index)) for index in range(start, start + count)]


def progress_bar(shown: bool) -> Progress:
    """Returns a progress bar for measurements."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, disable=not shown)


@contextmanager
def quiet(pipe: FlowPipeline) -> Yields[None]:
    """Hides the pipeline's own progress bars within the context, and leaves them as they were after it."""
    before: dict[str, object] = dict(getattr(pipe, "_progress_bar_config", {}))
    pipe.set_progress_bar_config(**before | {"disable": True})  # pyright: ignore[reportUnknownMemberType] - diffusers leaves parameters untyped
    try:
        yield
    finally:
        pipe.set_progress_bar_config(**before)  # pyright: ignore[reportUnknownMemberType] - diffusers leaves parameters untyped


def require_enough(num: int) -> None:
    """Raises ValueError if there are too few samples to measure with."""
    if num < 2:
        raise ValueError(f"num must be 2 or more, got {num}.")
