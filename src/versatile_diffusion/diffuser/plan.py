"""The order of data, context, push and pop steps.

Every output modality walks the same plan, so the context layers of any modality fit between the data layers of any
other. The order is that of a U-Net: an encoder that keeps its features, a middle, and a decoder that takes them back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from itertools import chain


@dataclass(frozen=True)
class DiffuserConfig:
    """Sizes that all modalities share. The defaults are the official ones.

    Attributes:
        model_channels: channels of the first level.
        channel_mult: channels of each level, as multiples of `model_channels`.
        num_res_blocks: residual blocks of each level on the way down; one more on the way up.
        with_context: whether a level has context layers.
        num_heads: attention heads of every context layer.
        context_scale: what tokens are multiplied by before they are attended to. CLIP's are divided by their norm, so
            that their numbers are about 1/√width; from nothing a diffuser learns much faster from numbers near 1.
    """

    model_channels: int = 320
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: tuple[int, ...] = (2, 2, 2, 2)
    with_context: tuple[bool, ...] = (True, True, True, False)
    num_heads: int = 8
    context_scale: float = 1.0

    def __post_init__(self) -> None:
        if not len(self.channel_mult) == len(self.num_res_blocks) == len(self.with_context):
            raise ValueError(
                "channel_mult, num_res_blocks and with_context need one entry a level, got "
                f"{self.channel_mult}, {self.num_res_blocks}, {self.with_context}"
            )

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(mult * self.model_channels for mult in self.channel_mult)

    @property
    def time_channels(self) -> int:
        """Width of the time embedding."""
        return 4 * self.model_channels


class Role(Enum):
    """What a data block is for."""

    INPUT = auto()
    RESIDUAL = auto()
    DOWNSAMPLE = auto()
    UPSAMPLE = auto()
    OUTPUT = auto()


@dataclass(frozen=True)
class DataStep:
    """Run the next data block of the output modality."""

    role: Role
    in_channels: int
    out_channels: int
    level: int


@dataclass(frozen=True)
class ContextStep:
    """Run the next context block of every context modality and mix the results."""

    channels: int


@dataclass(frozen=True)
class PushStep:
    """Keep the features for the way up."""


@dataclass(frozen=True)
class PopStep:
    """Append the features kept last."""


Step = DataStep | ContextStep | PushStep | PopStep


@dataclass(frozen=True)
class Plan:
    """All steps of one evaluation of the diffuser, in order."""

    config: DiffuserConfig
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, config: DiffuserConfig) -> Plan:
        """The official order for `config`."""
        return cls(config, tuple(chain(_encoder(config), _middle(config), _decoder(config))))

    @property
    def data(self) -> tuple[DataStep, ...]:
        """The data steps, one for each data block."""
        return tuple(step for step in self.steps if isinstance(step, DataStep))

    @property
    def context(self) -> tuple[ContextStep, ...]:
        """The context steps, one for each context block."""
        return tuple(step for step in self.steps if isinstance(step, ContextStep))


def _encoder(config: DiffuserConfig) -> Iterator[Step]:
    width = config.model_channels
    yield DataStep(Role.INPUT, width, width, 0)
    yield PushStep()
    last = len(config.channels) - 1
    for level, channels in enumerate(config.channels):
        for _ in range(config.num_res_blocks[level]):
            yield DataStep(Role.RESIDUAL, width, channels, level)
            width = channels
            if config.with_context[level]:
                yield ContextStep(width)
            yield PushStep()
        if level != last:
            yield DataStep(Role.DOWNSAMPLE, width, width, level)
            yield PushStep()


def _middle(config: DiffuserConfig) -> Iterator[Step]:
    level, width = len(config.channels) - 1, config.channels[-1]
    yield DataStep(Role.RESIDUAL, width, width, level)
    yield ContextStep(width)  # whatever `with_context` says of the last level
    yield DataStep(Role.RESIDUAL, width, width, level)


def _decoder(config: DiffuserConfig) -> Iterator[Step]:
    kept = list(_kept_channels(config))
    width = config.channels[-1]
    for level, channels in reversed(list(enumerate(config.channels))):
        for _ in range(config.num_res_blocks[level] + 1):
            yield PopStep()
            yield DataStep(Role.RESIDUAL, width + kept.pop(), channels, level)
            width = channels
            if config.with_context[level]:
                yield ContextStep(width)
        if level != 0:
            yield DataStep(Role.UPSAMPLE, width, width, level)
    yield DataStep(Role.OUTPUT, width, config.model_channels, 0)


def _kept_channels(config: DiffuserConfig) -> Iterator[int]:
    width = 0
    for step in _encoder(config):
        match step:
            case DataStep(out_channels=channels):
                width = channels
            case PushStep():
                yield width
            case _:
                pass
