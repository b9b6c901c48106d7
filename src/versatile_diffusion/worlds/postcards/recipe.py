"""The recipe of the bundled model: sizes, data and how each stage is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from versatile_diffusion.model_presets import (
    ImagePreset,
    Preset,
    TextPreset,
    clip_text,
    clip_vision,
    kl_autoencoder,
    optimus,
    postcards,
    tiny,
)
from versatile_diffusion.training.task import TrainingConfig

STAGES = ("oracle", "critic", "kl", "clip", "optimus", "one_flow", "two_flow", "four_flow")
"""What is trained, in this order; see `Recipe`."""

T = TypeVar("T")


@dataclass(frozen=True)
class Recipe:
    """Everything that `vd train postcards` can be told.

    Attributes:
        preset: sizes of the model.
        pictures: how many are rendered to learn from.
        seed: of the postcards.
        oracle: reads pictures, to measure with.
        critic: reads pictures, for the autoencoder to learn with.
        kl, clip, optimus: the autoencoders and context encoders.
        one_flow: image variation.
        two_flow: and text to image.
        four_flow: and image to text and text variation.
        min_snr: see `DiffuserTask`.
        text_multiple: samples of flows to text for each sample of flows to pictures, which cost three times as much.
        optimus_kl_weight: see `OptimusTask`.
        kl_feature_weight, kl_divergence_weight: see `KLAutoencoderTask`.
        image_guidance, text_guidance: what the model is guided by where the user does not say.
        measured: fresh pictures that each stage is measured on, at least 64.
    """

    preset: Preset = field(default_factory=postcards)
    pictures: int = 24_000
    seed: int = 1000
    oracle: TrainingConfig = TrainingConfig(1600, 64, 2e-3, seed=1, ema_decay=0.99, checkpoint_every=400)
    critic: TrainingConfig = TrainingConfig(1600, 64, 2e-3, seed=2, ema_decay=0.99, checkpoint_every=400)
    kl: TrainingConfig = TrainingConfig(4000, 32, 1.5e-3, seed=3, checkpoint_every=100)
    clip: TrainingConfig = TrainingConfig(2000, 192, 1e-3, seed=4)
    optimus: TrainingConfig = TrainingConfig(10_000, 64, 1e-3, seed=5)
    one_flow: TrainingConfig = TrainingConfig(1000, 64, 1e-3, final_rate=1.0, seed=6)
    two_flow: TrainingConfig = TrainingConfig(1500, 64, 1e-3, final_rate=1.0, seed=7)
    four_flow: TrainingConfig = TrainingConfig(6000, 64, 1e-3, seed=8)
    min_snr: float | None = 5.0
    text_multiple: int = 3
    optimus_kl_weight: float = 0.25
    kl_feature_weight: float = 0.5
    kl_divergence_weight: float = 1e-3
    image_guidance: float = 3.0
    text_guidance: float = 3.0
    measured: int = 512


def tiny_recipe() -> Recipe:
    """All stages, a few steps each, on pictures of 32×32: shows that everything runs, and learns nothing."""
    image = ImagePreset(
        kl_autoencoder(channels=(8, 16), layers=1, size=32, groups=8),
        clip_vision(width=16, layers=1, size=32, patch=16, projection=16, heads=2),
    )
    text = TextPreset(
        optimus(width=16, layers=1, pieces=109, tokens=109, latent=16, positions=(64, 64), heads=2),
        clip_text(width=16, layers=1, tokens=108, positions=40, projection=16, heads=2),
        latent_dim=16,
    )
    stages: dict[str, Any] = {
        stage: TrainingConfig(
            6, 4, 1e-3, warmup_steps=2, checkpoint_every=2, preview_every=6, log_every=2, seed=STAGES.index(stage)
        )
        for stage in STAGES
    }
    return Recipe(Preset(tiny().diffuser, {"image": image, "text": text}), pictures=16, measured=64, **stages)


def with_settings(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """A recipe with some values changed, each written as "key=value" or "stage.key=value".

    Raises:
        ValueError: if there is no such key, or the value is not of its type.
    """
    for setting in settings:
        path, separator, value = setting.partition("=")
        if not separator:
            raise ValueError(f"A setting is written as key=value, got {setting!r}.")
        recipe = _with(recipe, path.split("."), value, path)
    return recipe


def settings_of(recipe: Recipe) -> list[str]:
    """The settings that make this recipe of the default one, as far as settings can."""
    return list(_differences(recipe, Recipe(), ""))


def _with(part: T, keys: list[str], value: str, path: str) -> T:
    assert is_dataclass(part) and not isinstance(part, type)
    names = [f.name for f in fields(part)]
    if keys[0] not in names:
        raise ValueError(f"{path}: there is no {keys[0]!r} here, only {', '.join(names)}.")
    old: Any = getattr(part, keys[0])
    if len(keys) > 1:
        if not is_dataclass(old):
            raise ValueError(f"{path}: {keys[0]} has no parts.")
        return replace(part, **{keys[0]: _with(old, keys[1:], value, path)})
    return replace(part, **{keys[0]: _parse(get_type_hints(type(part))[keys[0]], value, path)})


def _parse(kind: Any, value: str, path: str) -> int | float | None:
    kinds = get_args(kind) or (kind,)
    if value == "none" and NoneType in kinds:
        return None
    number = next((k for k in kinds if k in (int, float)), None)
    if number is None:
        raise ValueError(f"{path} cannot be set here: write a recipe in Python instead.")
    try:
        return number(value)
    except ValueError:
        wanted = "a whole number" if number is int else "a number"
        raise ValueError(f"{path} must be {wanted}, got {value!r}.") from None


def _differences(part: Any, default: Any, prefix: str) -> Iterator[str]:
    for f in fields(part):
        new, old = getattr(part, f.name), getattr(default, f.name)
        if is_dataclass(new):
            yield from _differences(new, old, f"{prefix}{f.name}.")
        elif new != old and isinstance(new, int | float | None):
            yield f"{prefix}{f.name}={'none' if new is None else new}"
