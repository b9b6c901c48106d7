"""The recipe of the bundled model: sizes, data and how each stage is trained."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

from versatile_diffusion.presets import Preset, postcards
from versatile_diffusion.training.task import TrainingConfig

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
        optimus_kl_weight: see `OptimusTask`.
        kl_feature_weight: see `KLAutoencoderTask`.
    """

    preset: Preset = field(default_factory=postcards)
    pictures: int = 24_000
    seed: int = 1000
    oracle: TrainingConfig = TrainingConfig(1600, 64, 2e-3, seed=1, ema_decay=0.99, checkpoint_every=400)
    critic: TrainingConfig = TrainingConfig(1600, 64, 2e-3, seed=2, ema_decay=0.99, checkpoint_every=400)
    kl: TrainingConfig = TrainingConfig(2400, 32, 1.5e-3, seed=3, checkpoint_every=100)
    clip: TrainingConfig = TrainingConfig(1500, 128, 1e-3, seed=4)
    optimus: TrainingConfig = TrainingConfig(4000, 128, 1e-3, seed=5)
    one_flow: TrainingConfig = TrainingConfig(600, 96, 1e-3, final_rate=1.0, seed=6)
    two_flow: TrainingConfig = TrainingConfig(600, 96, 1e-3, final_rate=1.0, seed=7)
    four_flow: TrainingConfig = TrainingConfig(1200, 96, 1e-3, seed=8)
    min_snr: float | None = 5.0
    optimus_kl_weight: float = 0.05
    kl_feature_weight: float = 0.5


def with_settings(recipe: Recipe, settings: list[str]) -> Recipe:
    """A recipe with some values changed, each written as "key=value" or "stage.key=value".

    Raises:
        ValueError: if there is no such key, or the value is not of its type.
    """
    for setting in settings:
        path, separator, value = setting.partition("=")
        if not separator:
            raise ValueError(f"--set takes key=value, got {setting!r}.")
        recipe = _with(recipe, path.split("."), value, path)
    return recipe


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
    if not isinstance(old, int | float | None):
        raise ValueError(f"{path} cannot be set here: write a recipe in Python instead.")
    try:
        new = None if value == "none" and old is not None else (type(old) if old is not None else float)(value)
    except ValueError:
        raise ValueError(f"{path} must be of the kind of {old!r}, got {value!r}.") from None
    return replace(part, **{keys[0]: new})
