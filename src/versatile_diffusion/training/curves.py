"""The curves of a run as one image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from versatile_diffusion.training.metric_logger import LOG, NO_LOSS, VALIDATION, read_log

COLUMNS = 4
WIDTH, HEIGHT = 3.6, 2.8
"""Of a panel, in inches; the next is the room around its axes."""
LEFT, RIGHT, BOTTOM, TOP = 0.75, 0.1, 0.5, 0.3
Line = Mapping[str, float]
Curves = Mapping[str, tuple[list[float], list[float]]]
"""Steps and values by what is told."""


def plot_curves(stages: Mapping[str, Path], target: Path) -> Path:
    """Plots the losses of stages that have a log as a PNG.

    Args:
        stages: the folder of each stage by its name, in the order in which they are shown.
        target: the file to write.

    Returns:
        The target.

    Raises:
        FileNotFoundError: if no stage has a log.
        ModuleNotFoundError: if matplotlib is missing; it comes with the extra "evaluate".
    """
    from matplotlib.figure import Figure

    logs = {stage: lines for stage, folder in stages.items() if (lines := read_log(folder / LOG))}
    if not logs:
        raise FileNotFoundError(f"{target.parent} has no log of any stage: train one first.")
    panels = [panel for stage, lines in logs.items() for panel in _panels(stage, lines)]
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    axes_width, axes_height = WIDTH - LEFT - RIGHT, HEIGHT - BOTTOM - TOP
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows))
    figure.subplots_adjust(  # layouts that look at all labels take most of the time of a plot
        left=LEFT / (WIDTH * columns),
        right=1 - RIGHT / (WIDTH * columns),
        bottom=BOTTOM / (HEIGHT * rows),
        top=1 - TOP / (HEIGHT * rows),
        wspace=(LEFT + RIGHT) / axes_width,
        hspace=(BOTTOM + TOP) / axes_height,
    )
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for ax, (title, curves) in zip(axes, panels, strict=False):
        for loss, (steps, values) in curves.items():
            ax.plot(steps, values, label=loss)
        ax.set(title=title, xlabel="step", yscale="log")
        ax.grid(alpha=0.3)
        ax.legend(fontsize="small")
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    figure.savefig(target, dpi=90)  # pyright: ignore[reportUnknownMemberType] - matplotlib leaves parameters untyped
    return target


def _panels(stage: str, lines: Sequence[Line]) -> Iterator[tuple[str, Curves]]:
    """The curves of a stage: its losses, and those on validation data as means over all levels of noise."""
    names = dict.fromkeys(name for line in lines for name in line if name not in NO_LOSS)
    learnt = {name: [name] for name in names if not name.startswith(VALIDATION)}
    kept: dict[str, list[str]] = {}
    for name in names:
        if name.startswith(VALIDATION):
            kept.setdefault(name.removeprefix(VALIDATION).rpartition("/")[0], []).append(name)
    yield stage, {name: _curve(lines, parts) for name, parts in learnt.items()}
    if kept:
        yield f"{stage}: validation", {name: _curve(lines, parts) for name, parts in kept.items()}


def _curve(lines: Sequence[Line], names: Sequence[str]) -> tuple[list[float], list[float]]:
    told = [line for line in lines if names[0] in line]
    return [line["step"] for line in told], [sum(line[name] for name in names) / len(names) for line in told]
