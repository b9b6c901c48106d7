"""Where the diffuser's blocks lie in other layouts.

One walk through the plan tells where every block sits in a U-Net: on the way down, in the middle or on the way up, in
which block there, and in which place of it. A layout turns such a site into a prefix; in a block, a few names differ.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from versatile_diffusion.checkpoints.keys import Theirs
from versatile_diffusion.diffuser.plan import ContextStep, DataStep, Plan, PopStep, PushStep, Role


class Stage(Enum):
    """A part of the U-Net."""

    DOWN = auto()
    MIDDLE = auto()
    UP = auto()


@dataclass(frozen=True)
class Site:
    """Where a block lies.

    Attributes:
        index: its place among the plan's data steps, or among its context steps.
        stage: the part of the U-Net.
        block: how many features had been kept (DOWN) or taken back (UP) before it.
        position: its place among the steps since then.
        level: depth of the level, 0 first.
        layer: how many blocks of its kind came before it in that stage and level.
    """

    index: int
    stage: Stage
    block: int
    position: int
    level: int
    layer: int


def sites(plan: Plan) -> Iterator[tuple[DataStep | ContextStep, Site]]:
    """Walks the plan once."""
    seen: dict[object, int] = {}

    def count(*what: object) -> int:
        seen[what] = seen.get(what, -1) + 1
        return seen[what]

    last_push = max(i for i, step in enumerate(plan.steps) if isinstance(step, PushStep))
    stage, block, position, level = Stage.DOWN, 0, 0, 0
    for i, step in enumerate(plan.steps):
        match step:
            case PushStep() if i == last_push:
                stage, block, position = Stage.MIDDLE, 0, 0
            case PushStep():
                block, position = block + 1, 0
            case PopStep():
                block, position = (block + 1 if stage is Stage.UP else 0), 0
                stage = Stage.UP
            case DataStep() | ContextStep():
                level = step.level if isinstance(step, DataStep) else level
                kind = step.role if isinstance(step, DataStep) else ContextStep
                site = Site(count(type(step)), stage, block, position, level, count(kind, stage, level))
                yield step, site
                position += 1


@dataclass(frozen=True)
class Stream:
    """How the blocks of a kind of data layers are named by us, and how others store them.

    Attributes:
        residual: what comes before the names inside a residual block.
        downsample: the layer of a down-sampling block.
        upsample: the layer of an up-sampling block.
        last: the last layer of the last block.
        pointwise: layers of a residual block that others store as 1×1 convolutions.
        named: whether others give the layer of an up- or down-sampling block a name of its own.
    """

    residual: str
    downsample: str
    upsample: str
    last: str
    pointwise: tuple[str, ...]
    named: bool


CONVOLUTIONAL = Stream("", "layers.0", "layers.1", "layers.2", pointwise=(), named=True)
FULLY_CONNECTED = Stream(
    "block", "layers.1", "layers.1", "layers.3", pointwise=("project_in", "project_out", "shortcut"), named=False
)


@dataclass(frozen=True)
class Layout:
    """How another layout names a block, and what is in it.

    Attributes:
        data: the prefix of a data block.
        context: the prefix of a context block.
        time: the names of the two linear layers of the time embedding.
        residual: our name -> theirs, for the layers of a residual block.
        downsample: the layer of a down-sampling block.
        upsample: the layer of an up-sampling block.
        last: the normalisation and the layer of the last block.
    """

    data: Callable[[DataStep, Site], str]
    context: Callable[[Site], str]
    time: tuple[str, str]
    residual: Mapping[str, str]
    downsample: str
    upsample: str
    last: tuple[str, str]


def data_table(plan: Plan, ours: str, stream: Stream, layout: Layout) -> dict[str, Theirs]:
    """Returns the table of the data layers that we hold under `ours`."""
    table: dict[str, Theirs] = {}
    for step, site in sites(plan):
        if isinstance(step, DataStep):
            parts = {name: _join(layout.data(step, site), part) for name, part in _parts(step, stream, layout)}
            pointwise = [_join(stream.residual, name) for name in stream.pointwise]
            table |= _tensors(f"{ours}.{site.index}", parts, pointwise)
    return table


def context_table(plan: Plan, ours: str, layout: Layout) -> dict[str, Theirs]:
    """Returns the table of the context layers that we hold under `ours`."""
    table: dict[str, Theirs] = {}
    for step, site in sites(plan):
        if isinstance(step, ContextStep):
            parts = {name: _join(layout.context(site), part) for name, part in _TRANSFORMER.items()}
            table |= _tensors(f"{ours}.{site.index}", parts, ("project_in", "project_out"), _WITHOUT_BIAS)
    return table


def global_table(layout: Layout) -> dict[str, Theirs]:
    """Returns the table of the global layers."""
    return _tensors("global_layers", dict(zip(("linear_in", "linear_out"), layout.time, strict=True)))


def _parts(step: DataStep, stream: Stream, layout: Layout) -> Iterator[tuple[str, str]]:
    match step.role:
        case Role.INPUT:
            yield "layers.0", ""
        case Role.DOWNSAMPLE:
            yield stream.downsample, layout.downsample if stream.named else ""
        case Role.UPSAMPLE:
            yield stream.upsample, layout.upsample if stream.named else ""
        case Role.OUTPUT:
            yield from zip(("layers.0", stream.last), layout.last, strict=True)
        case Role.RESIDUAL:
            for ours, theirs in layout.residual.items():
                if ours != "shortcut" or step.in_channels != step.out_channels:
                    yield _join(stream.residual, ours), theirs


def _tensors(
    ours: str, parts: Mapping[str, str], pointwise: Collection[str] = (), without_bias: Collection[str] = ()
) -> dict[str, Theirs]:
    """Weights and biases of the layers {ours: theirs}."""
    table = {f"{ours}.{name}.weight": Theirs(f"{theirs}.weight", name in pointwise) for name, theirs in parts.items()}
    biased = {name: theirs for name, theirs in parts.items() if name not in without_bias}
    return table | {f"{ours}.{name}.bias": Theirs(f"{theirs}.bias") for name, theirs in biased.items()}


def _join(*names: str) -> str:
    return ".".join(name for name in names if name)


# The transformer block keeps the names that the latent diffusion code gave it, in every layout.
_TRANSFORMER = {
    "norm": "norm",
    "project_in": "proj_in",
    "norm_self": "transformer_blocks.0.norm1",
    "attend_self.query": "transformer_blocks.0.attn1.to_q",
    "attend_self.key": "transformer_blocks.0.attn1.to_k",
    "attend_self.value": "transformer_blocks.0.attn1.to_v",
    "attend_self.out": "transformer_blocks.0.attn1.to_out.0",
    "norm_cross": "transformer_blocks.0.norm2",
    "attend_cross.query": "transformer_blocks.0.attn2.to_q",
    "attend_cross.key": "transformer_blocks.0.attn2.to_k",
    "attend_cross.value": "transformer_blocks.0.attn2.to_v",
    "attend_cross.out": "transformer_blocks.0.attn2.to_out.0",
    "norm_feed_forward": "transformer_blocks.0.norm3",
    "feed_forward.project_in": "transformer_blocks.0.ff.net.0.proj",
    "feed_forward.project_out": "transformer_blocks.0.ff.net.2",
    "project_out": "proj_out",
}
_WITHOUT_BIAS = tuple(name for name in _TRANSFORMER if name.endswith((".query", ".key", ".value")))
