"""Distillation of a model on a data set: what `vd distill` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from versatile_diffusion.checkpoints.lora_folder import CONFIG, WEIGHTS
from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import Modality
from versatile_diffusion.pipeline.lora import write_lora
from versatile_diffusion.sampling.few_steps import FewSteps
from versatile_diffusion.sampling.options import SchedulerName
from versatile_diffusion.training.own_data.finetuning import STATE, FineTuning
from versatile_diffusion.training.own_data.trained_layers import LORA
from versatile_diffusion.training.report.distillation_page import DistillationPage
from versatile_diffusion.training.samples.user_samples import silent
from versatile_diffusion.training.settings.distillation_settings import DistillationSettings
from versatile_diffusion.training.tasks.consistency import ConsistencyTask, Jumps
from versatile_diffusion.training.tasks.diffuser import DiffuserTask, LatentData

STEPS = 4
"""Of sampling with a LoRA that learnt to take any number of them."""


class Distillation(FineTuning):
    """A run in which a LoRA learns to make in a few steps without guidance what its model makes in many with it.

    Args:
        settings: of the run.
        folder: of the run, and of the LoRA that it makes.
        say: see `FineTuning`.

    Raises:
        ValueError: if the folder holds a run with other settings; the message names them.
    """

    def __init__(self, settings: DistillationSettings, folder: Path, say: Callable[[str], None] = silent) -> None:
        super().__init__(settings, folder, say)
        self.distilled = settings

    @property
    def target(self) -> Path:
        """The folder of the LoRA: that of the run."""
        return self.folder

    @cached_property
    def jumps(self) -> Jumps:
        """The timesteps between which the LoRA learns to jump."""
        return Jumps(self.schedule, self.distilled.solver_steps, self.distilled.phases)

    @cached_property
    def page(self) -> DistillationPage:
        """See `FineTuning.page`."""
        return DistillationPage(self.folder, self.settings, self.learnt_data, self.learnt, str(self.start))

    def task(
        self,
        diffuser: Diffuser,
        flows: Sequence[Flow],
        data: LatentData,
        validation: LatentData | None = None,
        modalities: Mapping[str, Modality] | None = None,
    ) -> DiffuserTask:
        """See `FineTuning.task`."""
        settings = self.distilled
        own = {name: modality.guidance_scale for name, modality in self.model.modalities.items()}
        scales = own if settings.guidance_scale is None else dict.fromkeys(own, settings.guidance_scale)
        return ConsistencyTask(
            diffuser,
            flows,
            data,
            self.schedule,
            context_dropout=settings.context_dropout,
            modalities=modalities,
            validation=validation,
            jumps=self.jumps,
            guidance_scales=scales,
            huber=settings.huber,
        )

    @property
    def few_steps(self) -> FewSteps:
        """How the LoRA samples."""
        settings = self.distilled
        name = SchedulerName.TCD if settings.phases > 1 else SchedulerName.LCM
        steps = settings.phases if settings.phases > 1 else min(STEPS, settings.solver_steps)
        return FewSteps(scheduler=name, steps=steps, solver_steps=settings.solver_steps)

    def _save(self, trained: Mapping[str, Tensor], target: Path, schedule: DDIMScheduler) -> None:
        """Saves the LoRA in half precision beside the files of the run: first elsewhere, then each file at once."""
        factors = {name.replace(f".{LORA}.", "."): each.to(torch.float16) for name, each in trained.items()}
        made = target / STATE / LORA
        write_lora(self.model.skeleton, factors, made, self.few_steps)
        for name in (WEIGHTS, CONFIG):
            (made / name).replace(target / name)
        made.rmdir()
