"""The paper's training: with one flow, then two, then four, each stage from what the last one came to (section 4.2)."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from versatile_diffusion.checkpoints.folder import is_ours
from versatile_diffusion.data.captioned_data import SkippedSamples
from versatile_diffusion.files import write_whole
from versatile_diffusion.flows import Flow
from versatile_diffusion.processes import processes
from versatile_diffusion.training.loop.checkpoint import checkpoints
from versatile_diffusion.training.loop.metric_logger import LOG
from versatile_diffusion.training.own_data.finetuning import STATE, FineTuning
from versatile_diffusion.training.own_data.opened_model import OpenedModel
from versatile_diffusion.training.own_data.run_settings import (
    MODEL,
    SETTINGS,
    clear_run,
    require_same_run,
    write_settings,
)
from versatile_diffusion.training.report.run_card import ToldRun
from versatile_diffusion.training.report.run_commands import RunPlaces
from versatile_diffusion.training.report.run_page import PAGE, RunPage
from versatile_diffusion.training.samples.user_samples import Samples, silent
from versatile_diffusion.training.settings.choices import GradientScales
from versatile_diffusion.training.settings.stage_settings import ENCODER_STAGES, STAGE_RATES, Recipe, StageSettings
from versatile_diffusion.training.settings.training_settings import TrainingSettings

FOUR = ("image-variation", "text-to-image", "image-to-text", "text-variation")
STAGES: Mapping[str, tuple[str, ...]] = dict(zip(STAGE_RATES, (FOUR[:1], FOUR[:2], FOUR), strict=True))
"""The flows of each stage, in the paper's order."""
FOUR_FLOW = "four_flow"
"""The last stage, in which gradients have the paper's scales."""


class FlowRecipe:
    """A run of all stages. Samples are encoded once, for all flows; each stage is a run in a folder of its own.

    Args:
        settings: of all stages, with what each of them changes.
        folder: of the run.
        say: see `FineTuning`.

    Raises:
        ValueError: if the folder holds a run with other settings; the message names them.
    """

    def __init__(self, settings: TrainingSettings, folder: Path, say: Callable[[str], None] = silent) -> None:
        self.settings, self.folder, self.say = settings, folder, say
        require_same_run(settings, folder)

    @cached_property
    def whole(self) -> WholeRun:
        """What all stages share."""
        return WholeRun(self.plain_settings, self.folder, self.say)

    @property
    def plain_settings(self) -> TrainingSettings:
        """The settings without stages, of all flows that these learn."""
        flows = tuple(dict.fromkeys(name for stage in STAGES for name in self.stage_settings(stage, "").flows))
        return _plain(self.settings, flows=flows)

    def train(self) -> Path:
        """Trains all stages, or goes on where the run stopped, and returns the folder of the model.

        Raises:
            ValueError: if the model or the data set cannot be used so; the message says why.
            ImportError: if the optimizer or a tracker is not installed.
            KeyboardInterrupt: after Ctrl-C, once a checkpoint is saved.
        """
        self.require_possible()
        if processes().is_main_process:
            clear_run(self.settings, self.folder)
            write_settings(self.settings, self.folder / SETTINGS)
        self._require_taught()
        source = self.start
        for name in STAGES:
            target = self.folder / MODEL if name == [*STAGES][-1] else self.folder / name / MODEL
            stage = FlowStage(self, name, self.stage_settings(name, str(source)), target)
            if not stage.is_done:
                self._require_first(name)
                stage.train()
            processes().wait_for_everyone()
            source = target
        if processes().is_main_process:
            self.write_page()
        return self.folder / MODEL

    def require_possible(self) -> None:
        """Raises what `train` does where that can be told before anything is written or computed."""
        self.whole.require_installed()
        _ = self.whole.schedule

    @property
    def told(self) -> ToldRun:
        """The run as the card of its model tells it."""
        logs = {name: self.folder / name / STATE / LOG for name in STAGES}
        return ToldRun(self.settings, self.folder, str(self.start), logs)

    @property
    def pages(self) -> dict[str, Path]:
        """The pages of all stages, by their names."""
        return {name: self.folder / name / PAGE for name in STAGES}

    @property
    def left_out(self) -> SkippedSamples:
        """What of the data set any process left out."""
        return self.whole.left_out

    @property
    def learnt(self) -> list[Flow]:
        """The flows that the model has learnt in the end."""
        return self.whole.learnt

    @property
    def start(self) -> str | Path:
        """The model that the first stage begins from."""
        return self.whole.start

    def stage_settings(self, stage: str, start: str) -> TrainingSettings:
        """Returns the settings of one stage, from a start."""
        settings = self.settings
        own: StageSettings = getattr(settings, stage)
        changes = {name: value for name, value in dict(own).items() if value is not None}
        scales = GradientScales.PAPER if stage == FOUR_FLOW else settings.gradient_scales
        new: dict[str, object] = {"start": start, "encoders": (), "flows": STAGES[stage], "gradient_scales": scales}
        return _plain(settings, **{**new, **changes})

    def write_page(self) -> None:
        """Writes index.html: the pages of all stages that have begun, in one file."""
        frames = [
            f"<h2>{name.replace('_', ' ')}</h2>\n"
            f'<iframe srcdoc="{html.escape(page.read_text(encoding="utf-8"))}" title="{name}"></iframe>'
            for name, page in self.pages.items()
            if page.is_file()
        ]
        title = html.escape(f"Training on {self.settings.data}")
        style = "body{font-family:sans-serif;margin:2em}iframe{width:100%;height:60em;border:1px solid #ccc}"
        text = (
            f'<!doctype html><meta charset="utf-8"><title>{title}</title><style>{style}</style>\n<h1>{title}</h1>\n'
            f"<pre>vd train {html.escape(str(self.folder / SETTINGS))} --output {html.escape(str(self.folder))}</pre>\n"
        )
        write_whole(self.folder / PAGE, (text + "\n".join(frames)).encode())

    def _require_taught(self) -> None:
        taught = set(map(str, self.whole.learnt))
        for name in STAGES:
            if wanted := [flow for flow in self.stage_settings(name, "").flows if flow not in taught]:
                raise ValueError(
                    f"The data set does not teach {', '.join(wanted)}, which {name} learns, only {', '.join(taught)}. "
                    f"Leave them out with --set '{name}.flows=[…]', or train without --recipe."
                )

    def _require_first(self, stage: str) -> None:
        """Raises ValueError if a later stage has begun from what this one was before."""
        later = [*STAGES][[*STAGES].index(stage) + 1 :]
        if begun := [name for name in later if checkpoints(self.folder / name / STATE)]:
            raise ValueError(
                f"{', '.join(begun)} in {self.folder} began from what {stage} was before: choose another --output, or "
                f"remove these folders."
            )


class WholeRun(FineTuning):
    """What all stages share: the encoded samples, and the model that the first one begins from."""

    def __init__(self, settings: TrainingSettings, folder: Path, say: Callable[[str], None]) -> None:
        self.settings, self.folder = settings, folder  # that of the recipe, whose settings are checked there
        self.say = say if processes().is_main_process else silent


class FlowStage(FineTuning):
    """A stage of the recipe: it learns from the samples of the whole run, and keeps every layer of the model.

    Args:
        recipe: the whole run.
        name: of the stage.
        settings: of the stage.
        target: the folder of the model that it makes.
    """

    def __init__(self, recipe: FlowRecipe, name: str, settings: TrainingSettings, target: Path) -> None:
        super().__init__(settings, recipe.folder / name)
        self.recipe, self.name, self._target = recipe, name, target

    @property
    def is_done(self) -> bool:
        """Whether an earlier call has trained it to the last step of these settings."""
        whole = checkpoints(self.folder / STATE)
        return bool(whole) and whole[-1].name.endswith(f"{self.settings.steps:08d}") and is_ours(self.target)

    @property
    def target(self) -> Path:
        """See `FineTuning.target`."""
        return self._target

    @cached_property
    def samples(self) -> Mapping[str, Samples]:
        """Those of the whole run."""
        return self.recipe.whole.samples

    @property
    def told(self) -> ToldRun:
        """That of the whole run."""
        return self.recipe.told

    @property
    def left_out(self) -> SkippedSamples:
        """What of the data set any process left out."""
        return self.recipe.left_out

    @property
    def learnt(self) -> list[Flow]:
        """The flows of the stage."""
        return self.flows

    @cached_property
    def model(self) -> OpenedModel:
        """The model that the stage before made, whose modalities are those of the whole run."""
        opened = OpenedModel(self.start)
        opened.modalities = self.recipe.whole.model.modalities
        return opened

    def require_one_prediction(self) -> None:
        """See `FineTuning.require_one_prediction`: a stage after this one learns the other flows."""

    @cached_property
    def page(self) -> RunPage:
        """The page of the stage, which that of the whole run shows as well."""
        places = RunPlaces(self.recipe.folder, self.target, self.name)
        page = (self.folder, self.settings, self.learnt_data, self.learnt, None, places)
        return _StagePage(self.recipe.write_page, *page)

    def _save(self, trained: Mapping[str, Tensor], target: Path, schedule: DDIMScheduler) -> None:
        """Saves the model for the next stage as exactly as it was trained; the last one as all models are saved."""
        last = target == self.recipe.folder / MODEL
        self.model.save(trained, target, torch.float16 if last else None, schedule)


class _StagePage(RunPage):
    """The page of a stage.

    Args:
        after: is called whenever the page was written.
        arguments: of `RunPage`.
    """

    def __init__(self, after: Callable[[], None], *arguments: object) -> None:
        super().__init__(*arguments)  # pyright: ignore[reportArgumentType] - those of RunPage
        self.after = after

    def write(self, state: str) -> None:
        """See `RunPage.write`."""
        super().write(state)
        self.after()


def _plain(settings: TrainingSettings, **changes: object) -> TrainingSettings:
    """Settings of a run without stages."""
    nothing = {stage: StageSettings() for stage in (*STAGES, *ENCODER_STAGES)}
    return settings.model_copy(update={**nothing, "recipe": Recipe.NONE, **changes})
