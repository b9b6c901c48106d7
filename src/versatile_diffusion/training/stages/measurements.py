"""What each stage can do, measured before the next one starts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import rich

from versatile_diffusion.files import write_whole
from versatile_diffusion.processes import processes
from versatile_diffusion.training.stages.training_run import TrainingRun

FILE = "measurements.json"

Figures = Mapping[str, object]
"""What was measured of a stage, as JSON can hold it; "accuracy" is a share in [0, 1]."""


class Measurements:
    """A file of figures by stage. A stage is measured again only when its weights have changed.

    Args:
        run: whose stages are measured.
        what: they are measured on, such as "512 postcards".
    """

    def __init__(self, run: TrainingRun, what: str) -> None:
        self.run, self.what = run, what

    def measure(self, stage: str, compute: Callable[[], Figures | None]) -> None:
        """Measures a trained stage, tells its accuracy and writes down the figures, unless there is no measure."""
        weights = self.run.identity(stage)
        before = read_measurements(self.run.folder).get(stage, {})
        if not processes().is_main_process or before.get("weights") == weights:
            return
        figures = compute()
        if figures is None:
            return
        rich.print(f"{stage}: accuracy {figures['accuracy']:.4f} on {self.what} that were not learnt from")
        measured = read_measurements(self.run.folder)  # again: to measure one stage may have trained another
        measured.pop(self.run.former_names.get(stage, ""), None)
        known = {**measured, stage: {"weights": weights, **figures}}
        write_whole(self.run.folder / FILE, (json.dumps(known, indent=2) + "\n").encode())


def read_measurements(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns the figures of each stage of a run that has been measured."""
    path = folder / FILE
    return json.loads(path.read_text()) if path.exists() else {}
