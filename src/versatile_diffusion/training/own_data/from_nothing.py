"""`vd train DATA --start preset:NAME`: a model from nothing. Its encoders learn first, then flows as from any model.

Pictures, captions and texts are kept as the encoders learn from them. What these have come to is written as a model
whose diffuser has learnt nothing, and the recipe of flows begins from that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from versatile_diffusion.checkpoints.components import empty, official_scheduler
from versatile_diffusion.checkpoints.folder import is_ours
from versatile_diffusion.data.captioned_data import CaptionedData
from versatile_diffusion.data.folder import listing
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.processes import processes
from versatile_diffusion.training.loop.checkpoint import checkpoints
from versatile_diffusion.training.loop.metric_logger import LOG
from versatile_diffusion.training.own_data.finetuning import STATE
from versatile_diffusion.training.own_data.flow_recipe import STAGES, FlowRecipe, WholeRun
from versatile_diffusion.training.own_data.own_encoders import OWN_ENCODERS, OwnEncoders
from versatile_diffusion.training.own_data.own_images import TRAINING, VALIDATION, ImageKeeper, OwnImages
from versatile_diffusion.training.own_data.own_recipe import (
    OwnRun,
    own_preset,
    own_recipe,
    stage_steps,
    with_vocabularies,
)
from versatile_diffusion.training.own_data.predictions import chosen_schedule
from versatile_diffusion.training.own_data.run_settings import SETTINGS, START
from versatile_diffusion.training.own_data.stages_page import StagesPage
from versatile_diffusion.training.own_data.trained_layers import mixed_precision
from versatile_diffusion.training.report.run_card import ToldRun
from versatile_diffusion.training.report.run_page import PAGE, UNFINISHED, LearntData
from versatile_diffusion.training.samples.user_samples import silent
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.training.stages.measurements import read_measurements

ENCODERS, IMAGES = "encoders", "images"
"""The folder of the stages of encoders, in that of the run; and of the pictures that are kept, in that."""


class FromNothing(FlowRecipe):
    """A run in which a model of some sizes learns everything from a data set.

    Args:
        settings: whose start is "preset:NAME".
        folder: of the run, which goes on where it stopped.
        say: see `FineTuning`.

    Raises:
        ValueError: if the folder holds a run with other settings, or there is no such preset.
    """

    def __init__(self, settings: TrainingSettings, folder: Path, say: Callable[[str], None] = silent) -> None:
        super().__init__(settings, folder, say)
        self.preset = own_preset(settings)
        self.place = folder / ENCODERS

    @cached_property
    def whole(self) -> WholeRun:
        """See `FlowRecipe.whole`."""
        return _LearntStart(self.plain_settings, self.folder, self.say, self._start_of_flows)

    def require_possible(self) -> None:
        """See `FlowRecipe.require_possible`."""
        super().require_possible()
        require_similarity(self.settings)

    @property
    def told(self) -> ToldRun:
        """See `FlowRecipe.told`: with the stages of encoders."""
        of_flows = super().told
        logs = {name: self.place / name / LOG for name in OWN_ENCODERS}
        return ToldRun(
            self.settings, self.folder, self.settings.start, logs | dict(of_flows.logs), read_measurements(self.place)
        )

    @property
    def pages(self) -> dict[str, Path]:
        """See `FlowRecipe.pages`: first that of the encoders."""
        return {ENCODERS: self.place / PAGE, **super().pages}

    def _start_of_flows(self) -> Path:
        """The model that the flows begin from; it is made where it is not, or where a stage has more steps to take."""
        place = self.folder / START
        done = all(self._taken(name) >= stage_steps(self.settings, name) for name in OWN_ENCODERS)
        if not (done and is_ours(place)):
            self._require_encoders_first()
            encoders = self._encoders()
            processes().wait_for_everyone()  # until all have seen that it is not there
            if processes().is_main_process:
                encoders.write(place)
            processes().wait_for_everyone()
        return place

    def _taken(self, stage: str) -> int:
        """How many steps a stage of encoders has taken."""
        whole = checkpoints(self.place / stage)
        return int(whole[-1].name.rpartition("-")[2]) if whole else 0

    def _require_encoders_first(self) -> None:
        """Raises ValueError if a flow has begun from what the encoders were before."""
        if begun := [name for name in STAGES if checkpoints(self.folder / name / STATE)]:
            raise ValueError(
                f"{', '.join(begun)} in {self.folder} began from what the encoders were before: choose another "
                "--output, or remove these folders."
            )

    def _encoders(self) -> OwnEncoders:
        """The encoders, trained to their last steps."""
        kept = self._kept_images()
        preset = with_vocabularies(self.preset, kept[TRAINING].tokenizers)
        page = self._page(kept)
        run = OwnRun(
            self.place,
            own_recipe(self.settings, preset, len(kept[TRAINING])),
            ("train", str(self.folder / SETTINGS), "--output", str(self.folder)),
            mixed_precision(self.settings),
            followed=self.whole.tracking,
            shown=page.show_stage,
        )
        encoders = OwnEncoders(kept[TRAINING], kept[VALIDATION], run, self.settings.tags, self.settings.checkpointing)
        for stage in OWN_ENCODERS:
            getattr(encoders, stage)
            if processes().is_main_process:
                page.write(UNFINISHED)
        return encoders

    def _kept_images(self) -> dict[str, OwnImages]:
        """Both splits of what is learnt from."""
        settings = self.settings
        keeper = image_keeper(settings, self.preset.image.autoencoder, CaptionedData(settings.data, self.whole.skipped))
        keeper.keep(self.place / IMAGES, {"data": settings.data, "files": listing(settings.data)})
        return {split: OwnImages(self.place / IMAGES, split) for split in (TRAINING, VALIDATION)}

    def _page(self, kept: dict[str, OwnImages]) -> StagesPage:
        """The page of the encoders, which that of the whole run shows as well."""
        steps = {name: stage_steps(self.settings, name) for name in OWN_ENCODERS}

        def data() -> LearntData:
            left_out = self.whole.skipped
            return LearntData(kept[TRAINING].about, len(kept[VALIDATION]), left_out.told(), left_out.reasons)

        return StagesPage(self.place, self.settings, data, steps, self.folder, self.write_page)


class _LearntStart(WholeRun):
    """What all stages share, where the model that they begin from is to be learnt first.

    Args:
        settings, folder, say: see `FineTuning`.
        make_start: returns the folder of that model.
    """

    def __init__(
        self, settings: TrainingSettings, folder: Path, say: Callable[[str], None], make_start: Callable[[], Path]
    ) -> None:
        super().__init__(settings, folder, say)
        self.make_start = make_start

    @cached_property
    def schedule(self) -> DDIMScheduler:
        """See `FineTuning.schedule`: what it begins from is known before there is a model."""
        return chosen_schedule(self.settings, official_scheduler())

    @cached_property
    def start(self) -> Path:
        """See `FineTuning.start`."""
        return self.make_start()


def image_keeper(
    settings: TrainingSettings, autoencoder: dict[str, object], data: CaptionedData, most: int | None = None
) -> ImageKeeper:
    """Returns what keeps the pictures of a data set for the encoders.

    Args:
        settings: of the run.
        autoencoder: of images, its arguments, which tell their size.
        data: the data set.
        most: samples that are kept at most; all by default.
    """
    image = empty(lambda: ImageModality(autoencoder))  # to read with, which takes no weights
    return ImageKeeper(data, image, TextModality(), settings.filters, settings.validation, most)


def require_similarity(settings: TrainingSettings) -> None:
    """Raises ValueError if samples are filtered by a similarity that only a CLIP that has learnt could tell."""
    if settings.filters.min_similarity is None:
        return
    first = next(CaptionedData(settings.data).rows(), None)
    if first is not None and settings.filters.lacks_similarity(first.facts):
        raise ValueError(
            f"min_similarity needs a column of similarities, and {settings.data:.300} has none: a model from nothing "
            "has no CLIP yet to measure them by. Leave that filter out: --min-similarity -1."
        )
