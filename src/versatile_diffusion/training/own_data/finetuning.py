"""Training on a data set of one's own: what `vd train DATA` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from versatile_diffusion.checkpoints.errors import MissingFlowError
from versatile_diffusion.checkpoints.fingerprints import fingerprint
from versatile_diffusion.data.captioned_data import SKIPPED, CaptionedData, SkippedSamples
from versatile_diffusion.data.folder import listing
from versatile_diffusion.data.sample import words_modality
from versatile_diffusion.data.tables import captions_hint
from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import Modality
from versatile_diffusion.pipeline.lora import write_lora
from versatile_diffusion.processes import processes
from versatile_diffusion.training.loop.batch_share import WHOLE, own_share
from versatile_diffusion.training.loop.checkpoint import room_for
from versatile_diffusion.training.loop.metric_logger import LOG
from versatile_diffusion.training.loop.optimizers import require_optimizer
from versatile_diffusion.training.loop.sharding import whole
from versatile_diffusion.training.loop.task import TrainingConfig
from versatile_diffusion.training.loop.trackers import Tracking, run_title
from versatile_diffusion.training.loop.trainer import PRECISIONS, Trainer
from versatile_diffusion.training.own_data.opened_model import OpenedModel
from versatile_diffusion.training.own_data.predictions import changes, chosen_schedule, require_all_learnt
from versatile_diffusion.training.own_data.run_settings import (
    MODEL,
    SETTINGS,
    START,
    clear_run,
    require_same_run,
    write_settings,
)
from versatile_diffusion.training.own_data.starts import is_assembled, write_start
from versatile_diffusion.training.own_data.trained_layers import LORA, held_as, mixed_precision, prepare
from versatile_diffusion.training.own_data.trainer_config import training_config
from versatile_diffusion.training.report.run_card import ToldRun, write_run_card
from versatile_diffusion.training.report.run_page import LearntData, RunPage
from versatile_diffusion.training.samples.sample_cache import TRAINING, VALIDATION, SampleCache
from versatile_diffusion.training.samples.sample_encoder import SampleEncoder
from versatile_diffusion.training.samples.sample_reader import SampleReader
from versatile_diffusion.training.samples.user_samples import Samples, UserSamples, silent
from versatile_diffusion.training.settings.choices import GradientScales, Sharding, Trained
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.training.stages.preparation import learnt_schedule
from versatile_diffusion.training.tasks.diffuser import GRADIENT_SCALES, DiffuserTask, LatentData

STATE = "training"
"""Where the checkpoints lie in the folder of a run."""

STATE_BYTES = 16
"""Of a parameter that is trained: its value, gradient and two moments in float32."""
_LARGE = 2 * 2**30


class FineTuning:
    """A run: a folder in which a model is trained on a data set, and which goes on where it stopped.

    Args:
        settings: what is trained, on what and how.
        folder: of the run.
        say: tells people something, such as how samples are encoded.

    Raises:
        ValueError: if the folder holds a run with other settings; the message names them.
    """

    def __init__(self, settings: TrainingSettings, folder: Path, say: Callable[[str], None] = silent) -> None:
        self.settings, self.folder = settings, folder
        self.say = say if processes().is_main_process else silent
        require_same_run(settings, folder)

    def train(self) -> Path:
        """Trains to the last step, and returns the folder of what was trained: a LoRA, or a whole model.

        Raises:
            ValueError: if the model or the data set cannot be used so; the message says why.
            ImportError: if the optimizer or a tracker is not installed.
            KeyboardInterrupt: after Ctrl-C, once a checkpoint is saved.
        """
        self.require_installed()
        if processes().is_main_process:
            clear_run(self.settings, self.folder)
        schedule = self.schedule  # which is checked before anything is written
        if processes().is_main_process:
            write_settings(self.settings, self.folder / SETTINGS)
        trainer = self.trainer
        trainer.run()
        trained = whole(trainer.trained)
        if processes().is_main_process:
            with room_for("What was trained", self.folder / STATE):
                self._save(trained, self.target, schedule)
                write_run_card(self.page, self.target, self.told)
                self.page.finish(self.target)
        return self.target

    def require_installed(self) -> None:
        """Raises ImportError, which says what to install, unless the optimizer and all trackers are there."""
        require_optimizer(self.settings.optimizer)
        Tracking(self.settings.log_with).require()

    @property
    def told(self) -> ToldRun:
        """The run as its card tells it."""
        return ToldRun(self.settings, self.folder, str(self.start), {"": self.folder / STATE / LOG})

    @property
    def target(self) -> Path:
        """The folder of what is trained: a LoRA, or a whole model."""
        return self.folder / (LORA if self.settings.train is Trained.LORA else MODEL)

    @cached_property
    def schedule(self) -> DDIMScheduler:
        """The noise schedule that is learnt, and what is predicted."""
        return chosen_schedule(self.settings, self.model.scheduler)

    @cached_property
    def trainer(self) -> Trainer[Diffuser]:
        """What trains the diffuser, with everything that it takes in place.

        Raises:
            ValueError: if the data set does not teach what was asked for.
        """
        data = self.samples
        self.require_taught(self.learnt)
        if untaught := [flow for flow in self.flows if flow not in self.learnt]:
            self.say(_untaught(self.learnt, untaught))
        self.require_one_prediction()
        task = self.task(self.diffuser, self.learnt, data[TRAINING], data[VALIDATION], self.model.modalities)
        place, show, precision = self.folder / STATE, self.page.show, mixed_precision(self.settings)
        return Trainer(task, self.config, place, "training", precision, show, self.sharded, self.tracking)

    def task(
        self,
        diffuser: Diffuser,
        flows: Sequence[Flow],
        data: LatentData,
        validation: LatentData | None = None,
        modalities: Mapping[str, Modality] | None = None,
    ) -> DiffuserTask:
        """Returns what the diffuser learns, as the settings say.

        Args:
            diffuser, flows, data, validation, modalities: see `DiffuserTask`.
        """
        settings = self.settings
        return DiffuserTask(
            diffuser,
            flows,
            data,
            self.schedule,
            context_dropout=settings.context_dropout,
            min_snr=settings.min_snr,
            gradient_scales=GRADIENT_SCALES if settings.gradient_scales is GradientScales.PAPER else None,
            modalities=modalities,
            validation=validation,
            noise_offset=settings.noise_offset,
            timestep_shift=settings.timestep_shift,
        )

    def require_one_prediction(self) -> None:
        """Raises ValueError if some flows of the model would predict something else than the others."""
        if changes(learnt_schedule(self.model.scheduler), self.schedule):
            require_all_learnt(self.model.skeleton.config, self.learnt)

    @cached_property
    def page(self) -> RunPage:
        """The page that shows how the run goes."""
        return RunPage(self.folder, self.settings, self.learnt_data, self.learnt, str(self.start))

    def require_taught(self, learnt: Sequence[Flow]) -> None:
        """Raises ValueError unless the flows that were asked for are among those that the data teaches."""
        if wanted := [flow for flow in self._asked or () if flow not in learnt]:
            raise ValueError(_untaught(learnt, wanted))

    @cached_property
    def skipped(self) -> SkippedSamples:
        """What of the data set this process left out."""
        return SkippedSamples(self.folder / SKIPPED, self.settings.strict)

    @cached_property
    def start(self) -> str | Path:
        """The model that the run begins from: the one that was given, or the one that was put together of several."""
        start, encoders = self.settings.start, self.settings.encoders
        if not is_assembled(start, encoders):
            return start
        return write_start(start, encoders, self._asked, self.settings.seed, self.folder / START)

    @cached_property
    def model(self) -> OpenedModel:
        """The model that the run begins from, opened for the flows that were asked for."""
        try:
            return OpenedModel(self.start, self._asked)
        except MissingFlowError as error:
            raise MissingFlowError(
                f"{error} To train that flow on this model, name its encoders with --encoders."
            ) from error

    @cached_property
    def diffuser(self) -> Diffuser:
        """What is trained, prepared for it: the layers of the flows that are learnt."""
        dtype_of = held_as(self.settings, self.learnt, mixed_precision(self.settings))
        diffuser = self.model.open_diffuser(self.learnt, dtype_of)
        prepare(diffuser, self.learnt, self.settings)
        return diffuser

    @property
    def sharded(self) -> bool:
        """Whether several processes share the model out among them."""
        size = STATE_BYTES * sum(parameter.numel() for parameter in self.model.skeleton.parameters())
        sharding = self.settings.sharding
        return sharding is Sharding.FULL or (sharding is Sharding.AUTO and size > _LARGE)

    @property
    def flows(self) -> list[Flow]:
        """What may be learnt: the flows that were asked for, or all that the model has."""
        config = self.model.skeleton.config
        return self._asked or [
            Flow(context, output) for output in config["outputs"] for context in config["context_dims"]
        ]

    @property
    def _asked(self) -> list[Flow] | None:
        """The flows that were asked for; None stands for all."""
        return [Flow.parse(name) for name in self.settings.flows] or None

    @cached_property
    def samples(self) -> Mapping[str, Samples]:
        """The samples of both splits, encoded or to be encoded on the way."""
        settings = self.settings
        multiple = 2 ** (len(self.model.skeleton.config["channel_mult"]) - 1)
        self.model.bring_modalities(processes().device)  # pyright: ignore - accelerate has no types
        encoder = SampleEncoder(self.model.modalities, self.flows, multiple, settings.size, settings.tags)
        origin = {
            "data": settings.data,
            "files": listing(settings.data),
            "flows": sorted(map(str, self.flows)),
            "size": settings.size,
            "validation": settings.validation,
            "filters": asdict(settings.filters),
            "encoders": {name: fingerprint(each) for name, each in encoder.modalities.items()},
            **({"tags": asdict(settings.tags)} if settings.tags.are_varied else {}),
        }
        reader = SampleReader(encoder, self.skipped, settings.filters, settings.validation)
        with processes().main_process_first():
            data = CaptionedData(settings.data, self.skipped)
            computed = PRECISIONS[mixed_precision(settings)]
            samples = UserSamples(settings, self.folder, data, reader, origin, self.say, computed).open()
        if isinstance(samples[TRAINING], SampleCache):
            encoder.unconditional_of_all()
            self.model.release_context_encoders()
        return samples

    def learnt_data(self) -> LearntData:
        """What is told of the data, as far as it is known by now."""
        kept = self.samples[VALIDATION]
        count = len(kept) if isinstance(kept, SampleCache) else 0
        return LearntData(self.samples[TRAINING].about, count, self.left_out.told(), self.left_out.reasons)

    @property
    def left_out(self) -> SkippedSamples:
        """What of the data set any process left out."""
        return self.skipped if own_share() == WHOLE else SkippedSamples(self.folder / SKIPPED)

    @property
    def learnt(self) -> list[Flow]:
        """The flows that the data set teaches, of those that may be learnt."""
        return self.samples[TRAINING].flows

    @property
    def config(self) -> TrainingConfig:
        """The settings as the trainer takes them."""
        return training_config(self.settings)

    @cached_property
    def tracking(self) -> Tracking:
        """Where the run is followed."""
        title = run_title(self.folder) if processes().is_main_process else ""
        return Tracking(self.settings.log_with, title, json.loads(self.settings.model_dump_json()))

    def _save(self, trained: Mapping[str, Tensor], target: Path, schedule: DDIMScheduler) -> None:
        """Saves what was trained: a LoRA, or the model that the run began from with it."""
        if self.settings.train is Trained.LORA:
            factors = {name.replace(f".{LORA}.", "."): each for name, each in trained.items()}
            write_lora(self.model.skeleton, factors, target)
        else:
            self.model.save(trained, target, torch.float16, schedule)


def _untaught(taught: Sequence[Flow], lacking: Sequence[Flow]) -> str:
    """What a data set does not teach, and where captions are looked for if it seems to have none."""
    knows_words = any(words_modality() in (flow.context, flow.output) for flow in taught)
    told = f"The data set teaches {', '.join(map(str, taught))}, but not {', '.join(map(str, lacking))}."
    return told if knows_words else f"{told} {captions_hint()}"
