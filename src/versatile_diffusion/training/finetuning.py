"""Training on a data set of one's own: what `vd train DATA` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import cast

import torch
import yaml
from torch import Tensor, nn

from versatile_diffusion.checkpoints import Checkpoint, Components, open_source, write
from versatile_diffusion.devices import computes_bf16
from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.files import write_whole
from versatile_diffusion.flows import Flow
from versatile_diffusion.pipeline.lora import save_lora
from versatile_diffusion.pipeline.lora_layers import FACTORS, adaptable_layers, adapted_layers, group_of, inject
from versatile_diffusion.processes import processes
from versatile_diffusion.training.config import read_settings
from versatile_diffusion.training.preparation import learnt_schedule, seeded
from versatile_diffusion.training.reading.captioned_data import SKIPPED, CaptionedData, SkippedSamples
from versatile_diffusion.training.reading.folder import listing
from versatile_diffusion.training.run_card import write_run_card
from versatile_diffusion.training.run_page import LearntData, RunPage
from versatile_diffusion.training.sample_cache import TRAINING, VALIDATION, SampleCache
from versatile_diffusion.training.sample_encoder import SampleEncoder
from versatile_diffusion.training.sample_reader import SampleReader
from versatile_diffusion.training.settings import (
    MAY_CHANGE,
    Precision,
    RateSchedule,
    Sharding,
    Trained,
    TrainingSettings,
)
from versatile_diffusion.training.sharding import whole
from versatile_diffusion.training.task import TrainingConfig
from versatile_diffusion.training.tasks.diffuser import DiffuserTask
from versatile_diffusion.training.trackers import Tracking, run_title
from versatile_diffusion.training.trainer import Trainer
from versatile_diffusion.training.user_samples import Samples, UserSamples, silent
from versatile_diffusion.validation import checked

SETTINGS = "run.yaml"
LORA, MODEL, STATE = "lora", "model", "training"
"""What lies in the folder of a run: what was trained, and the checkpoints."""

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
            ImportError: if a tracker is not installed.
            KeyboardInterrupt: after Ctrl-C, once a checkpoint is saved.
        """
        settings, main = self.settings, processes().is_main_process
        self.tracking.require()
        if main:
            write_settings(settings, self.folder / SETTINGS)
        data, learnt = self.samples, self.learnt
        self.require_taught(learnt)
        prepare(self.diffuser, learnt, settings)
        page = RunPage(self.folder, settings, self.learnt_data, learnt)
        task = DiffuserTask(
            self.diffuser,
            learnt,
            data[TRAINING],
            learnt_schedule(self.model.scheduler),
            context_dropout=settings.context_dropout,
            min_snr=settings.min_snr,
            modalities=self.model.modalities,
            validation=data[VALIDATION],
        )
        place = self.folder / STATE
        trainer = Trainer(
            task, self.config, place, "training", self.mixed_precision, page.show, self.sharded, self.tracking
        )
        trainer.run()
        trained = whole(trainer.trained)
        target = self.folder / (LORA if settings.train is Trained.LORA else MODEL)
        if main:
            self._save(trained, learnt, target)
            write_run_card(page, target)
            page.finish(target)
        return target

    def require_taught(self, learnt: Sequence[Flow]) -> None:
        """Raises ValueError unless the flows that were asked for are among those that the data teaches."""
        if wanted := [name for name in self.settings.flows if Flow.parse(name) not in learnt]:
            raise ValueError(f"The data set teaches {', '.join(map(str, learnt))}, but not {', '.join(wanted)}.")

    @cached_property
    def skipped(self) -> SkippedSamples:
        """What of the data set could not be used."""
        return SkippedSamples(self.folder / SKIPPED, self.settings.strict)

    @cached_property
    def model(self) -> Components:
        """The model that is trained."""
        return self._start()

    def _start(self) -> Components:
        """Opens the model that the run begins from, with all that its flows need."""
        flows = [Flow.parse(name) for name in self.settings.flows] or None
        return open_source(self.settings.start, flows=flows, torch_dtype=torch.float32)

    @property
    def sharded(self) -> bool:
        """Whether several processes share the model out among them."""
        size = STATE_BYTES * sum(parameter.numel() for parameter in self.diffuser.parameters())
        sharding = self.settings.sharding
        return sharding is Sharding.FULL or (sharding is Sharding.AUTO and size > _LARGE)

    @property
    def diffuser(self) -> Diffuser:
        """What is trained."""
        return self.model.diffuser

    @property
    def flows(self) -> list[Flow]:
        """What may be learnt: the flows that were asked for, or all that the model has."""
        if self.settings.flows:
            return [Flow.parse(name) for name in self.settings.flows]
        config = self.diffuser.config
        return [Flow(context, output) for output in config["outputs"] for context in config["context_dims"]]

    @cached_property
    def samples(self) -> Mapping[str, Samples]:
        """The samples of both splits, encoded or to be encoded on the way."""
        settings = self.settings
        multiple = 2 ** (len(self.diffuser.config["channel_mult"]) - 1)
        encoder = SampleEncoder(self.model.modalities, self.flows, multiple, settings.size)
        origin = {
            "data": settings.data,
            "files": listing(settings.data),
            "flows": sorted(map(str, self.flows)),
            "size": settings.size,
            "validation": settings.validation,
            "filters": asdict(settings.filters),
            "encoders": {name: fingerprint(each) for name, each in encoder.modalities.items()},
        }
        for modality in encoder.modalities.values():
            modality.requires_grad_(False).to(processes().device)
        reader = SampleReader(encoder, self.skipped, settings.filters, settings.validation)
        with processes().main_process_first():
            data = CaptionedData(settings.data, self.skipped)
            return UserSamples(settings, self.folder, data, reader, origin, self.say).open()

    def learnt_data(self) -> LearntData:
        """What is told of the data, as far as it is known by now."""
        kept = self.samples[VALIDATION]
        count = len(kept) if isinstance(kept, SampleCache) else 0
        return LearntData(self.samples[TRAINING].about, count, self.skipped.told(), self.skipped.reasons)

    @property
    def learnt(self) -> list[Flow]:
        """The flows that the data set teaches, of those that may be learnt."""
        return self.samples[TRAINING].flows

    @property
    def config(self) -> TrainingConfig:
        """The settings as the trainer takes them."""
        settings = self.settings
        return TrainingConfig(
            settings.steps,
            settings.batch_size,
            settings.learning_rate,
            warmup_steps=settings.warmup_steps,
            final_rate=1.0 if settings.schedule is RateSchedule.CONSTANT else 0.05,
            weight_decay=settings.weight_decay,
            clip_norm=settings.clip_norm,
            ema_decay=settings.ema_decay,
            checkpoint_every=settings.checkpoint_every,
            preview_every=settings.sheet_every,
            seed=settings.seed,
            log_every=min(10, settings.sheet_every),
        )

    @cached_property
    def tracking(self) -> Tracking:
        """Where the run is followed."""
        title = run_title(self.folder) if processes().is_main_process else ""
        return Tracking(self.settings.log_with, title, json.loads(self.settings.model_dump_json()))

    @property
    def mixed_precision(self) -> str:
        """What the trainer computes in, as accelerate calls it."""
        quick = computes_bf16() if self.settings.precision is Precision.AUTO else False
        return "bf16" if quick or self.settings.precision is Precision.BF16 else "no"

    def _save(self, trained: Mapping[str, Tensor], flows: Sequence[Flow], target: Path) -> None:
        """Saves what was trained, or the model that the run began from with it."""
        model = self._start()  # anew, since what was trained may be shared out
        prepare(model.diffuser, flows, self.settings)
        parameters = dict(model.diffuser.named_parameters())
        for name, tensor in trained.items():
            parameters[name].data.copy_(tensor)
        if self.settings.train is Trained.LORA:
            save_lora(model.diffuser, target)
        else:
            write(Checkpoint.of(model), target, dtype=torch.float16)


def prepare(diffuser: Diffuser, flows: Sequence[Flow], settings: TrainingSettings) -> None:
    """Freezes all of a diffuser but what is trained: a new LoRA, or some of its layers.

    Args:
        diffuser: to be changed.
        flows: that are learnt; what none of them uses stays frozen.
        settings: which layers.
    """
    data = {f"data_layers.{flow.output}" for flow in flows}
    context = {f"context_layers.{flow.context}" for flow in flows}
    diffuser.requires_grad_(False)
    if settings.checkpointing:
        diffuser.enable_gradient_checkpointing()  # pyright: ignore[reportUnknownMemberType] - untyped in part in diffusers
    if settings.train is Trained.LORA:
        targets = [path for path, _ in adaptable_layers(diffuser) if group_of(path) in data | context]
        seeded(settings.seed, lambda: inject(diffuser, LORA, dict.fromkeys(targets, settings.rank)))
        for _, layer in adapted_layers(diffuser):
            for factor in FACTORS:
                getattr(layer, factor)[LORA].requires_grad_(True)
        return
    groups = {Trained.CONTEXT: context, Trained.DATA: data, Trained.ALL: data | context | {"global_layers"}}
    for name, parameter in diffuser.named_parameters():
        group = next((each for each in groups[settings.train] if name.startswith(f"{each}.")), None)
        parameter.requires_grad_(group is not None)


def require_same_run(settings: TrainingSettings, folder: Path) -> None:
    """Raises ValueError if a folder holds a run of other settings than these, but for those that may change."""
    file = folder / SETTINGS
    if not file.exists():
        return
    before = checked(TrainingSettings, read_settings(file))
    changed = [
        f"{name} was {_told(getattr(before, name))} and is {_told(getattr(settings, name))}"
        for name in TrainingSettings.model_fields
        if name not in MAY_CHANGE and getattr(before, name) != getattr(settings, name)
    ]
    if changed:
        raise ValueError(
            f"{folder} is a run with other settings: {', '.join(changed)}. Give the same to go on, or another --output."
        )


def write_settings(settings: TrainingSettings, file: Path) -> None:
    """Writes settings so that `vd train FILE` reads them."""
    values = json.loads(settings.model_dump_json())
    write_whole(file, yaml.safe_dump(values, sort_keys=False, allow_unicode=True).encode())


def fingerprint(module: nn.Module) -> str:
    """Returns a checksum of the weights of a module."""
    digest = sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _told(value: object) -> str:
    return " ".join(map(str, cast("tuple[object, ...]", value))) or "all" if isinstance(value, tuple) else str(value)
