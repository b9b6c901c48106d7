"""The page of the encoders of a model from nothing, which are trained stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from versatile_diffusion.training.loop.metric_logger import LOG, read_log
from versatile_diffusion.training.loop.task import Preview
from versatile_diffusion.training.own_data.run_settings import SETTINGS
from versatile_diffusion.training.report.curves import curves_of_stages
from versatile_diffusion.training.report.run_page import UNFINISHED, LearntData, RunPage
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.training.stages.measurements import read_measurements
from versatile_diffusion.training.stages.model_training import FLOWS


class StagesPage(RunPage):
    """The page of all stages of encoders, in their folder.

    Args:
        folder: of the stages.
        settings: of the run.
        data: returns what is learnt from.
        steps: of each stage, in their order.
        run: the folder of the whole run.
        after: is called whenever the page was written.
    """

    def __init__(
        self,
        folder: Path,
        settings: TrainingSettings,
        data: Callable[[], LearntData],
        steps: Mapping[str, int],
        run: Path,
        after: Callable[[], None],
    ) -> None:
        super().__init__(folder, settings, data, FLOWS)
        self.steps, self.run, self.after = steps, run, after

    def write(self, state: str) -> None:
        """See `RunPage.write`."""
        super().write(state)
        self.after()

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
        """See `RunPage.commands`. The stages after these tell how to use what they make."""
        return [("Go on, where it was stopped", ["vd", "train", str(self.run / SETTINGS), "--output", str(self.run)])]

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
