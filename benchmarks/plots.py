"""Draws pictures per second over the size of a batch, from what `vd bench generation` wrote.

vd bench generation --rounds 3 --json generation.json
python benchmarks/plots.py generation.json docs/images/batches.png
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

RATE = re.compile(r"rate in batches of (\d+)")


def plot_batches(found: dict[str, Any], path: Path) -> None:
    """Plots medians, and the spread of the rounds.

    Raises:
        ValueError: if `generation` was not measured.
    """
    from matplotlib.figure import Figure

    generation = found["benchmarks"].get("generation", {"figures": {}})
    rates = {int(at[1]): figure for name, figure in generation["figures"].items() if (at := RATE.fullmatch(name))}
    if not rates:
        raise ValueError("The file holds no rates in batches: write it with `vd bench generation --json`.")
    medians = [figure["median"] for figure in rates.values()]
    spread = [
        [figure["median"] - min(figure["rounds"]) for figure in rates.values()],
        [max(figure["rounds"]) - figure["median"] for figure in rates.values()],
    ]
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    panel = figure.subplots()
    panel.errorbar(list(rates), medians, spread, marker="o", capsize=3)
    for size, rate in zip(rates, medians, strict=True):
        panel.annotate(f"{rate:.1f}", (size, rate), xytext=(0, 8), textcoords="offset points", ha="center")
    panel.set_xscale("log", base=2)
    panel.set_xticks(list(rates), [str(size) for size in rates])
    how, machine = generation["settings"], found["machine"]
    title = f"{how['model']}, {how['steps']} steps, {how['dtype'].removeprefix('torch.')}, {how['device']}"
    panel.set(xlabel="pictures in a batch", ylabel="pictures per second")
    panel.set(xlim=(0.7, 1.4 * max(rates)), ylim=(0, 1.2 * max(medians)))
    panel.set_title(f"{title}\n{machine['cpu']}, {machine['cores']} cores", fontsize="medium")
    panel.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main(figures: Annotated[Path, typer.Argument()], picture: Annotated[Path, typer.Argument()]) -> None:
    """Reads and draws."""
    plot_batches(json.loads(figures.read_text()), picture)


if __name__ == "__main__":
    typer.run(main)
