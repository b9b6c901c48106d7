"""What a run learns to predict, and with which noise schedule, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from versatile_diffusion.flows import Flow
from versatile_diffusion.sampling.schedulers import check_scheduler
from versatile_diffusion.training.settings.choices import PredictionType, Trained
from versatile_diffusion.training.settings.training_settings import NO_NOISE_TOLD, TrainingSettings
from versatile_diffusion.training.stages.preparation import learnt_schedule


def chosen_schedule(settings: TrainingSettings, scheduler: SchedulerMixin) -> DDIMScheduler:
    """Returns the schedule that is learnt.

    Args:
        settings: of the run.
        scheduler: of the model that the run begins from.

    Raises:
        ValueError: if nothing can be sampled with it, or a LoRA would need another schedule than its model has.
    """
    before, chosen = learnt_schedule(scheduler), learnt_schedule(scheduler, settings.prediction_type, settings.zero_snr)
    if settings.zero_snr and chosen.config["prediction_type"] == PredictionType.EPSILON:
        raise ValueError(NO_NOISE_TOLD)
    check_scheduler(chosen)
    changed = changes(before, chosen)
    if changed and settings.train is Trained.LORA:
        told = " and ".join(f"{name} {value[0]}" for name, value in changed.items())
        raise ValueError(
            f"A LoRA is used with the scheduler of its model, which has {told}: leave "
            f"{' and '.join(changed)} as they are there, or train whole layers (--train all)."
        )
    return chosen


def changes(before: DDIMScheduler, after: DDIMScheduler) -> dict[str, tuple[object, object]]:
    """Returns what differs between two schedules that matters to what is learnt, by its name in their configs."""
    names = ("prediction_type", "rescale_betas_zero_snr")
    return {
        name: (before.config[name], after.config[name]) for name in names if before.config[name] != after.config[name]
    }


def require_all_learnt(config: Mapping[str, Any], learnt: Sequence[Flow]) -> None:
    """Checks that no layer of a model stays as it was, where the whole model is to predict something else.

    Args:
        config: of the diffuser.
        learnt: the flows that are learnt.

    Raises:
        ValueError: if a layer does.
    """
    outputs, contexts = {flow.output for flow in learnt}, {flow.context for flow in learnt}
    left = [name for name in config["outputs"] if name not in outputs]
    left += [name for name in config["context_dims"] if name not in contexts and name not in left]
    if left:
        raise ValueError(
            f"The model would predict something else in all of its flows, but those of {' and '.join(left)} are not "
            f"learnt. Name those that are, so that the model holds no others: --flows {' '.join(map(str, learnt))}."
        )
