"""Writes down how a run goes: a line of figures now and then, and TensorBoard's curves, images and texts."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator  # pyright: ignore[reportMissingTypeStubs] - accelerate has no types
from accelerate.tracking import GeneralTracker, TensorBoardTracker  # pyright: ignore[reportMissingTypeStubs] - accelerate has no types
from torch import Tensor

from versatile_diffusion._moved import former_names
from versatile_diffusion.files import write_whole

__getattr__ = former_names(
    __name__,
    {
        "Journal": "versatile_diffusion.training.metric_logger:MetricLogger",
    },
)

LOG = "log.jsonl"
NO_LOSS = ("step", "seconds", "samples_per_second", "learning_rate")
"""What a line of the log holds besides losses."""
VALIDATION = "validation/"
"""How the names of losses on validation data begin."""


class MetricLogger:
    """The log of a run. Only the main process writes.

    Args:
        folder: of the run.
        accelerator: with a TensorBoard tracker, or none.
    """

    def __init__(self, folder: Path, accelerator: Accelerator) -> None:
        self.path, self.accelerator = folder / LOG, accelerator

    @contextmanager
    def after(self, step: int) -> Generator[None]:
        """Opens the log for what comes after a step; what an interrupted run wrote of that is forgotten."""
        if self.accelerator.is_main_process:
            kept = [line for line in read_log(self.path) if line["step"] <= step]
            write_whole(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self.accelerator.init_trackers("tensorboard", init_kwargs={"tensorboard": {"purge_step": step + 1}})  # pyright: ignore[reportUnknownMemberType] - accelerate has no types
        try:
            yield
        finally:
            for tracker in self._trackers:
                tracker.finish()

    @property
    def shows(self) -> bool:
        """Whether there is a place for images and texts."""
        return bool(self._trackers)

    def write(self, step: int, seconds: float, speed: float, rate: float, losses: Mapping[str, float]) -> None:
        """Writes a line of figures."""
        figures = {"seconds": round(seconds, 1), "samples_per_second": round(speed, 1), "learning_rate": rate}
        with self.path.open("a") as log:
            log.write(json.dumps({"step": step, **figures, **losses}) + "\n")
        self.accelerator.log({**figures, **{f"loss/{name}": loss for name, loss in losses.items()}}, step=step)  # pyright: ignore[reportUnknownMemberType] - accelerate has no types

    def show(self, step: int, preview: Mapping[str, Tensor | str]) -> None:
        """Shows images (3 h w) in [0, 1] and texts."""
        images = {name: item.cpu().numpy()[None] for name, item in preview.items() if isinstance(item, Tensor)}
        texts = {name: item for name, item in preview.items() if isinstance(item, str)}
        for tracker in self._trackers:
            if isinstance(tracker, TensorBoardTracker):
                tracker.log_images(images, step=step)  # pyright: ignore[reportUnknownMemberType] - accelerate has no types
                tracker.log(texts, step=step)  # pyright: ignore[reportUnknownMemberType] - accelerate has no types

    @property
    def _trackers(self) -> list[GeneralTracker]:
        return self.accelerator.trackers  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - accelerate has no types


def read_log(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of a log, without a last one that was cut short."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]
