"""The curves of a run as one image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from itertools import cycle
from pathlib import Path

from versatile_diffusion.training.loop.metric_logger import LOG, NO_LOSS, VALIDATION, read_log

COLUMNS = 4
WIDTH, HEIGHT = 3.6, 2.8
"""Of a panel, in inches; the next is the room around its axes."""
LEFT, RIGHT, BOTTOM, TOP = 0.75, 0.1, 0.5, 0.3
Line = Mapping[str, float]
Curves = Mapping[str, tuple[list[float], list[float]]]
"""Steps and values by what is told."""
_LETTERS = "#010203"
"""A colour that nothing else has: a page puts that of its text in its place."""
_COLOURS = ("#3f83f8", "#e5793a", "#16a37f", "#b867d6", "#c9a227", "#d6527b")


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


def curves_of_page(lines: Sequence[Line]) -> list[str]:
    """Draws the curves of a log as SVGs for a page, whose lettering has the colour of its text.

    Raises:
        ModuleNotFoundError: if matplotlib is missing; it comes with the extra "train".
    """
    titles = ("as it learns", "on samples kept apart, all levels of noise alike")
    return (
        [_drawn(title, curves) for title, (_, curves) in zip(titles, _panels("", lines), strict=False)] if lines else []
    )


def curves_of_stages(logs: Mapping[str, Sequence[Line]]) -> list[str]:
    """Draws the curves of several logs in the same way, by the name of each.

    Raises:
        ModuleNotFoundError: see `curves_of_page`.
    """
    panels = (panel for name, lines in logs.items() if lines for panel in _panels(name.replace("_", " "), lines))
    return [_drawn(title, curves) for title, curves in panels]


def _drawn(title: str, curves: Curves) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    style = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _LETTERS)
    with matplotlib.rc_context({**style, "svg.fonttype": "none", "font.family": "sans-serif"}):  # pyright: ignore - untyped in part
        figure = Figure(figsize=(6.4, 3.9))
        legend = 0.2 * -(-len(curves) // 2)
        figure.subplots_adjust(left=0.13, right=0.99, top=0.92, bottom=(BOTTOM + legend) / 3.9)
        ax = figure.subplots()
        for (loss, (steps, values)), colour in zip(curves.items(), cycle(_COLOURS), strict=False):
            marker = "o" if len(steps) == 1 else None
            ax.plot(steps, values, label=loss, color=colour, linewidth=1.8, marker=marker)  # pyright: ignore[reportUnknownMemberType] - matplotlib leaves parameters untyped
        ax.set(title=title, xlabel="step", yscale="log")
        ax.grid(alpha=0.25, color=_LETTERS)  # pyright: ignore[reportUnknownMemberType] - likewise
        ax.spines[["top", "right"]].set_visible(False)
        for axis in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
            axis("{x:.4g}")
        figure.legend(loc="lower center", ncols=2, frameon=False, fontsize="small")  # pyright: ignore[reportUnknownMemberType] - likewise
        drawn = StringIO()
        figure.savefig(drawn, format="svg", transparent=True)  # pyright: ignore[reportUnknownMemberType] - likewise
    svg = drawn.getvalue().replace(_LETTERS, "currentColor")
    return f'<svg role="img" aria-label="{title}, losses over steps"' + svg[svg.index("<svg") + len("<svg") :]


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
