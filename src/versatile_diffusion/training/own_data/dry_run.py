"""What a run would do, found out before it starts: `vd train DATA --dry-run`."""

from __future__ import annotations

import copy
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from accelerate import init_empty_weights  # pyright: ignore[reportMissingTypeStubs] - accelerate has no types

from versatile_diffusion.checkpoints import Checkpoint
from versatile_diffusion.checkpoints.sources import read_source
from versatile_diffusion.data.captioned_data import CaptionedData, SkippedSamples
from versatile_diffusion.devices import choose_device
from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import Modality
from versatile_diffusion.model_presets import Preset, build, stable_diffusion_v1, vd_four_flow
from versatile_diffusion.pipeline.lora_layers import group_of
from versatile_diffusion.processes import processes
from versatile_diffusion.training.loop.machine import free_memory, hardware
from versatile_diffusion.training.loop.trainer import Trainer
from versatile_diffusion.training.own_data.data_survey import DataSurvey, survey
from versatile_diffusion.training.own_data.distillation import Distillation
from versatile_diffusion.training.own_data.encoder_times import encoder_times
from versatile_diffusion.training.own_data.finetuning import STATE_BYTES
from versatile_diffusion.training.own_data.flow_recipe import STAGES, FlowRecipe
from versatile_diffusion.training.own_data.from_nothing import FromNothing
from versatile_diffusion.training.own_data.opened_model import OpenedModel
from versatile_diffusion.training.own_data.own_recipe import own_configs, own_preset
from versatile_diffusion.training.own_data.own_training import open_training
from versatile_diffusion.training.own_data.run_plan import (
    PROCESSES,
    CardMemory,
    DiskNeed,
    RunPlan,
    StepTime,
    TimedStage,
    TrainedParts,
)
from versatile_diffusion.training.own_data.starts import CONTEXT_LAYERS, assemble, is_assembled
from versatile_diffusion.training.own_data.step_memory import PassMemory, StepMemory, step_memory
from versatile_diffusion.training.own_data.trained_layers import held_as, mixed_precision, prepare
from versatile_diffusion.training.own_data.trainer_config import training_config
from versatile_diffusion.training.samples.random_latents import RandomLatents
from versatile_diffusion.training.samples.sample_encoder import SampleEncoder
from versatile_diffusion.training.settings.choices import Trained
from versatile_diffusion.training.settings.distillation_settings import DistillationSettings
from versatile_diffusion.training.settings.training_settings import TrainingSettings

OFFICIAL = "shi-labs/versatile-diffusion"
SIZES: dict[str, Callable[[], Preset]] = {
    OFFICIAL: vd_four_flow,
    "CompVis/stable-diffusion-v1-4": stable_diffusion_v1,
}
"""Sizes of models of the hub, which need not be downloaded to be counted."""
FLOWS = ("image-variation", "text-to-image", "image-to-text", "text-variation")
"""Those of the official model."""


class SizedModel(OpenedModel):
    """A model of which nothing is read but its sizes."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.modalities = dict(checkpoint.modalities)


class DryRun:
    """Finds out what a run would do, without training and without writing anything.

    Args:
        settings: of the run.
        folder: of the run.
        progress: called with what is being done.

    Raises:
        ValueError: if the folder holds a run with other settings; the message names them.
    """

    def __init__(
        self, settings: TrainingSettings, folder: Path, progress: Callable[[str], None] = lambda _: None
    ) -> None:
        self.settings, self.folder, self.progress = settings, folder, progress
        distilled = isinstance(settings, DistillationSettings)
        opened = Distillation(settings, folder) if distilled else open_training(settings, folder)
        self.recipe = opened if isinstance(opened, FlowRecipe) else None
        self.run = opened.whole if isinstance(opened, FlowRecipe) else opened
        flows = [Flow.parse(name) for name in self.run.settings.flows] or None
        self.run.model = SizedModel(sizes_of(settings, flows))
        if self.recipe is not None:
            self.recipe.require_possible()

    def plan(self) -> RunPlan:
        """Returns what would happen.

        Raises:
            ValueError: if the run could not be done; the message says why.
        """
        self.progress("reading data")
        found = self._data()
        flows = [flow for flow in self.run.flows if str(flow) in found.flows]
        self.run.require_taught(flows)
        self.progress("counting memory")
        own = sizes_of(self.settings, flows)
        counted = {each: self._counted(own, flows, mixed_precision(self.settings), each) for each in (False, True)}
        step, trained = counted[self.settings.checkpointing]
        memory = [_card("this model", each, found) for each, (found, _) in counted.items()]
        known = [flow for flow in flows if str(flow) in FLOWS]
        if known and self.settings.start != OFFICIAL:
            official, _ = self._counted(_of_preset(SIZES[OFFICIAL](), known), known, "bf16", True)
            memory.append(_card("the official model", True, official))
        self.progress("taking a step")
        timed = [*self._encoder_stages(), *self._flow_stages(step)]
        return RunPlan(
            self.settings,
            found,
            list(map(str, flows)),
            trained,
            memory,
            timed[-1].time if timed else self._time(flows, step, self.run.settings),
            timed,
            self._disk(found, step),
            int(processes().num_processes),  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType] - accelerate has no types
        )

    def _data(self) -> DataSurvey:
        model, settings = self.run.model, self.run.settings
        multiple = 2 ** (len(model.skeleton.config["channel_mult"]) - 1)
        encoder = SampleEncoder(model.modalities, self.run.flows, multiple, settings.size, settings.tags)
        data = CaptionedData(settings.data, SkippedSamples(None, settings.strict))
        found = survey(data, encoder, settings.filters)
        if not found.flows:
            why = next(iter(found.overview.skipped.items()), None)
            told = "It is empty." if why is None else f"Of {why[0]:.200}: {why[1]:.300}"
            raise ValueError(f"Nothing can be learnt from {settings.data:.300}. {told}")
        return found

    def _counted(
        self, model: Checkpoint, flows: Sequence[Flow], precision: str, recomputed: bool
    ) -> tuple[StepMemory, TrainedParts]:
        """Counts the memory of a step, and what is trained, of those flows that the model has."""
        settings = self.run.settings.model_copy(update={"checkpointing": recomputed})
        dtype_of = held_as(settings, flows, precision)
        diffuser = copy.deepcopy(model.diffuser).to_empty(device="cpu")  # room that nothing is ever written to
        for name, parameter in diffuser.named_parameters():
            parameter.data = torch.empty(parameter.shape, dtype=dtype_of(name, tuple(parameter.shape)))
        prepare(diffuser, flows, settings)
        trained = trained_parts(diffuser)
        size = self.settings.size if precision == mixed_precision(self.settings) else None
        largest = largest_alike(flows, model.modalities)
        counted = list(dict.fromkeys(largest.values()))
        task = self.run.task(diffuser, counted, RandomLatents(model.modalities, size))
        step = step_memory(task, self.run.config, precision)
        passes = dict(zip(counted, step.passes, strict=True))
        return replace(step, passes=[as_of(flow, like, passes[like]) for flow, like in largest.items()]), trained

    def _encoder_stages(self) -> Iterator[TimedStage]:
        """The stages of a model from nothing in which its encoders are trained."""
        if not isinstance(self.recipe, FromNothing):
            return
        parts = [sum(each.numel() for each in part.parameters()) for part in self.run.model.modalities.values()]
        whole = sum(parts) + sum(each.numel() for each in self.run.model.skeleton.parameters())
        short = _shortage(whole * torch.float32.itemsize + STATE_BYTES * max(parts))
        seconds = {} if short else encoder_times(self.settings, self.recipe.preset)
        for name, config in own_configs(self.settings).items():
            yield TimedStage(name, config.steps, config.batch_size, StepTime(seconds.get(name), short, hardware()))

    def _flow_stages(self, step: StepMemory) -> Iterator[TimedStage]:
        """The stages of a recipe of flows; each takes at most the memory of a step of all of them."""
        if self.recipe is None:
            return
        for name in STAGES:
            settings = self.recipe.stage_settings(name, self.settings.start)
            flows = [Flow.parse(each) for each in settings.flows]
            yield TimedStage(name, settings.steps, settings.batch_size, self._time(flows, step, settings))

    def _time(self, flows: Sequence[Flow], step: StepMemory, settings: TrainingSettings) -> StepTime:
        """Takes two steps with the weights of the start, or random ones, and tells how long the second one took."""
        if not settings.from_nothing and (settings.start in SIZES or is_assembled(settings.start, settings.encoders)):
            return StepTime(None, f"{settings.start} is not read for that.", hardware())
        if short := _shortage(step.peak(at_once=True)):
            return StepTime(None, short, hardware())
        precision = mixed_precision(settings)
        dtype_of = held_as(settings, flows, precision)
        if isinstance(self.recipe, FromNothing):
            diffuser = build(self.recipe.preset, flows).diffuser
        else:
            diffuser = OpenedModel(settings.start, flows).open_diffuser(flows, dtype_of)
        prepare(diffuser, flows, settings)
        with TemporaryDirectory() as folder:
            task = self.run.task(diffuser, flows, RandomLatents(self.run.model.modalities, settings.size))
            trainer = Trainer(task, training_config(settings), Path(folder), mixed_precision=precision)
            trainer.update()
            begun = time.perf_counter()
            trainer.update()
            return StepTime(time.perf_counter() - begun, "", hardware())

    def _disk(self, found: DataSurvey, step: StepMemory) -> DiskNeed:
        nearest = self.folder.absolute()
        while not nearest.exists():
            nearest = nearest.parent
        whole = sum(each.numel() for part in self.run.model.modalities.values() for each in part.parameters())
        whole += sum(each.numel() for each in self.run.model.skeleton.parameters())
        return DiskNeed(
            found.cache_bytes,
            step.gradients + step.average + step.moments,
            self.run.config.keep_checkpoints + 1,
            step.gradients if self.settings.train is Trained.LORA else 2 * whole,
            shutil.disk_usage(nearest).free,
        )


def _shortage(needed: int) -> str:
    """Why steps are not taken here: they need more bytes than there are. Empty where they do not."""
    free = free_memory(choose_device())
    if free is None or needed <= free:
        return ""
    return f"it takes {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} are free."


def sizes_of(settings: TrainingSettings, flows: Sequence[Flow] | None) -> Checkpoint:
    """Returns the model that a run begins from, with nothing read of it but its sizes.

    Args:
        settings: of the run.
        flows: only what these need; by default all that the model has.

    Raises:
        CheckpointError: see `open_source` and `assemble`.
    """
    if settings.from_nothing:
        return _of_preset(own_preset(settings), flows)
    if is_assembled(settings.start, settings.encoders):
        return assemble(settings.start, settings.encoders, flows, settings.seed)
    return _of_preset(SIZES[settings.start](), flows) if settings.start in SIZES else read_source(settings.start, flows)


def trained_parts(diffuser: Diffuser) -> TrainedParts:
    """Returns which parameters of a diffuser are trained, by groups of layers such as "data_layers.image"."""
    groups: Counter[str] = Counter()
    whole = 0
    for name, parameter in diffuser.named_parameters():
        whole += 0 if ".lora_" in name else parameter.numel()
        if parameter.requires_grad:
            groups[_group(name)] += parameter.numel()
    return TrainedParts(dict(groups), whole)


def largest_alike(flows: Sequence[Flow], modalities: Mapping[str, Modality]) -> dict[Flow, Flow]:
    """Returns for each flow the one whose step is counted in its place, since counting takes long.

    Flows of the same output whose context layers are of the same size hold the same but for the tokens that these see:
    of those the one with the most tokens is counted.

    Args:
        flows: that are learnt.
        modalities: by name.
    """

    def tokens(flow: Flow) -> int:
        context = modalities[flow.context]
        return context.context_shape[0] if context.context_lengths else 0

    def kind(flow: Flow) -> tuple[object, ...]:
        context = modalities[flow.context]
        return flow.output, context.context_dim, None if context.context_lengths else flow.context

    return {flow: max((each for each in flows if kind(each) == kind(flow)), key=tokens) for flow in flows}


def as_of(flow: Flow, like: Flow, counted: PassMemory) -> PassMemory:
    """Returns what a flow's pass takes, by that of a flow like it: gradients are of its own context layers."""
    own, other = (f"{CONTEXT_LAYERS}.{each.context}." for each in (flow, like))
    return replace(counted, reached={name.replace(other, own): size for name, size in counted.reached.items()})


def _group(name: str) -> str:
    """The group of layers that a parameter belongs to; the global ones are one."""
    return "global_layers" if name.startswith("global_layers") else group_of(name)


def _card(what: str, checkpointing: bool, step: StepMemory) -> CardMemory:
    parts = {name: getattr(step, name) for name in ("weights", "gradients", "moments", "average", "activations")}
    return CardMemory(what, checkpointing, {count: step.peak(count) for count in PROCESSES}, parts)


def _of_preset(preset: Preset, flows: Sequence[Flow] | None) -> Checkpoint:
    with init_empty_weights(include_buffers=False):
        built = build(preset, flows)
    return Checkpoint(built.diffuser, built.modalities, built.scheduler, {})
