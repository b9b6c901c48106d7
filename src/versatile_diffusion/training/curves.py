"""The curves of a run as one image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from versatile_diffusion.training.metric_logger import LOG, NO_LOSS, read_log

COLUMNS = 4


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
    rows = -(-len(logs) // COLUMNS)
    figure = Figure(figsize=(3.6 * COLUMNS, 2.8 * rows), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
    for panel, (stage, lines) in zip(panels, logs.items(), strict=False):
        for loss in dict.fromkeys(name for line in lines for name in line if name not in NO_LOSS):
            told = [line for line in lines if loss in line]
            panel.plot([line["step"] for line in told], [line[loss] for line in told], label=loss)
        panel.set(title=stage, xlabel="step", yscale="log")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    for panel in panels[len(logs) :]:
        panel.set_axis_off()
    figure.savefig(target, dpi=90)  # pyright: ignore[reportUnknownMemberType] - matplotlib leaves parameters untyped
    return target
