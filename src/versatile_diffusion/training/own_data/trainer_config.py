"""The settings of a run as its trainer takes them."""

from __future__ import annotations

from versatile_diffusion.training.loop.task import TrainingConfig
from versatile_diffusion.training.settings.choices import RateSchedule
from versatile_diffusion.training.settings.training_settings import TrainingSettings


def training_config(settings: TrainingSettings) -> TrainingConfig:
    """Returns how long, how fast and how often a run is trained, or each of its stages unless that says otherwise."""
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
        optimizer=settings.optimizer,
        accumulate=settings.accumulate,
        average=settings.ema,
    )
