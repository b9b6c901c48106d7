"""The page of a run that trains a model from nothing, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from versatile_diffusion.training.loop.metric_logger import LOG, read_log
from versatile_diffusion.training.loop.task import Preview
from versatile_diffusion.training.report.curves import curves_of_stages
from versatile_diffusion.training.report.run_commands import RunPlaces, run_commands
from versatile_diffusion.training.report.run_page import UNFINISHED, LearntData, RunPage
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.training.stages.measurements import read_measurements
from versatile_diffusion.training.stages.model_training import FLOWS
from versatile_diffusion.training.stages.names import MODEL


class StagesPage(RunPage):
    """The page of all stages, in the folder of the run.

    Args:
        folder: of the run.
        settings: of the run.
        data: returns what is learnt from.
        steps: of each stage, in their order.
    """

    def __init__(
        self, folder: Path, settings: TrainingSettings, data: Callable[[], LearntData], steps: Mapping[str, int]
    ) -> None:
        self.steps = steps
        super().__init__(folder, settings, data, FLOWS, places=RunPlaces(folder, folder / MODEL, [*steps][-1]))

    def show_stage(self, stage: str, step: int, preview: Preview) -> None:
        """Draws the sheet of a step of a stage, if it has something to show, and writes the page anew."""
        if preview:
            self.draw(f"{[*self.steps].index(stage)}-{stage}-step-{step:08d}.png", f"{stage}, step {step}", preview)
        self.write(UNFINISHED)

    @property
    def logs(self) -> dict[str, list[dict[str, float]]]:
        """The lines of the logs of all stages that have begun."""
        return {stage: lines for stage in self.steps if (lines := read_log(self.folder / stage / LOG))}

    @property
    def progress(self) -> tuple[int, int]:
        """See `RunPage.progress`: of all stages together."""
        return int(sum(lines[-1]["step"] for lines in self.logs.values())), sum(self.steps.values())

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """See `RunPage.commands`. What goes on is the last stage: those before it are what it began from."""
        settings = self.settings.model_copy(update={"steps": [*self.steps.values()][-1]})
        return run_commands(settings, self.flows, self.start, self.places)

    def curves(self) -> list[str]:
        """See `RunPage.curves`."""
        return curves_of_stages(self.logs)

    def figures(self) -> Iterator[tuple[str, str]]:
        """See `RunPage.figures`: how far each stage is, and what it can do."""
        measured = read_measurements(self.folder)
        for stage, lines in self.logs.items():
            yield f"{stage.replace('_', ' ')}, steps", f"{lines[-1]['step']:,} of {self.steps[stage]:,}"
            for name, value in measured.get(stage, {}).items():
                if isinstance(value, float):
                    yield f"{stage.replace('_', ' ')}, {name}", f"{value:.4g}"
