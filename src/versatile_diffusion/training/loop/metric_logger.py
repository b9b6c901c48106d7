"""Writes down how a run goes: a line of figures now and then, and the curves, images and texts of its trackers."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker  # pyright: ignore[reportMissingTypeStubs] - accelerate has no types
from torch import Tensor

from versatile_diffusion._moved import former_names
from versatile_diffusion.files import write_whole
from versatile_diffusion.training.loop.trackers import Tracking, show_image

__getattr__ = former_names(
    __name__,
    {
        "Journal": "versatile_diffusion.training.loop.metric_logger:MetricLogger",
    },
)

LOG = "log.jsonl"
NO_LOSS = ("step", "seconds", "samples_per_second", "learning_rate", "memory", "skipped")
"""What a line of the log holds besides losses: memory is in bytes, skipped are steps that fp16 had no range for."""
VALIDATION = "validation/"
"""How the names of losses on validation data begin."""


class MetricLogger:
    """The log of a run. Only the main process writes.

    Args:
        folder: of the run.
        tracking: the trackers that follow it, too.
        main: whether this is the main process.
    """

    def __init__(self, folder: Path, tracking: Tracking, main: bool) -> None:
        self.path, self.tracking, self.main = folder / LOG, tracking, main
        self.trackers: list[GeneralTracker] = []

    @contextmanager
    def after(self, step: int) -> Generator[None]:
        """Opens the log for what comes after a step; what an interrupted run wrote of that is forgotten."""
        if self.main:
            kept = [line for line in read_log(self.path) if line["step"] <= step]
            write_whole(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())
            self.trackers = self.tracking.start(self.path.parent, step)
        try:
            yield
        except BaseException:
            with suppress(OSError):  # what ends the run is told, not that trackers have no room for their ends
                self._finish()
            raise
        self._finish()

    def _finish(self) -> None:
        for tracker in self.trackers:
            tracker.finish()

    @property
    def shows(self) -> bool:
        """Whether there is a place for images and texts."""
        return bool(self.trackers)

    def write(self, step: int, figures: Mapping[str, float], losses: Mapping[str, float]) -> None:
        """Writes a line: figures, whose names are in `NO_LOSS`, and losses by their names."""
        with self.path.open("a") as log:
            log.write(json.dumps({"step": step, **figures, **losses}) + "\n")
        for tracker in self.trackers:
            tracker.log({**figures, **{f"loss/{name}": loss for name, loss in losses.items()}}, step=step)  # pyright: ignore[reportUnknownMemberType] - accelerate has no types

    def show(self, step: int, preview: Mapping[str, Tensor | str]) -> None:
        """Shows images (3 h w) in [0, 1] and texts."""
        for tracker in self.trackers:
            for name, item in preview.items():
                if isinstance(item, Tensor):
                    show_image(tracker, name, item, step)
                else:
                    tracker.log({name: item}, step=step)  # pyright: ignore[reportUnknownMemberType] - accelerate has no types


def read_log(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of a log, without a last one that was cut short."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]
