"""The model card: where the weights come from, and what they can do."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from versatile_diffusion.files import write_whole
from versatile_diffusion.processes import processes
from versatile_diffusion.training.checkpoint import checkpoints, read_state
from versatile_diffusion.training.curves import plot_curves
from versatile_diffusion.worlds.postcards.measurements import read_measurements
from versatile_diffusion.worlds.postcards.recipe import STAGES, Recipe, settings_of

RUN, EVALUATION = "run.json", "evaluation.json"

INTRODUCTION = """\
# Postcards

A small Versatile Diffusion model (arXiv 2211.08332): text to image, image to text, image variation and text variation.
It was trained on rendered postcards with captions, from {start}.
"""

LIMITS = """\
## Limits

It knows nothing but postcards: five places, three times of day, four kinds of weather, six subjects in six colours,
three positions, five styles, and the words that name them. It says so when a prompt has other words. A tenth of the
combinations was never trained on; scores on these are reported apart. Photographs are read as if they were postcards.
"""


def record_run(run: Path, recipe: Recipe, mixed_precision: str, start: str | Path | None = None) -> None:
    """Writes down how a run is made, for `write_card`."""
    options = [] if start is None else ["--start", str(start)]
    options += [word for setting in settings_of(recipe) for word in ("--set", setting)]
    facts = {
        "command": shlex.join([*_program(processes().num_processes), "train", "postcards", *options]),
        "start": None if start is None else str(start),
        "commit": _commit(),
        "hardware": _hardware(),
        "mixed_precision": mixed_precision,
        "recipe": asdict(recipe),
    }
    write_whole(run / RUN, (json.dumps(facts, indent=2) + "\n").encode())


def write_card(run: Path, model: Path) -> Path:
    """Writes README.md beside the weights of a model, from what its run left behind.

    Args:
        run: folder of the run; an evaluation of the model is reported if it lies there as evaluation.json.
        model: folder of the saved model.

    Raises:
        FileNotFoundError: if `run` is not the folder of a run.
    """
    facts = _read(run / RUN)
    if not facts:
        raise FileNotFoundError(f"{run} is not the folder of a run: it has no {RUN}.")
    start = f"the model {facts['start']!r}" if facts.get("start") else "random weights"
    sections = [INTRODUCTION.format(start=start), _origin(facts), _stages(run, facts["recipe"])]
    if find_spec("matplotlib") and any(run.glob("*/log.jsonl")):
        shutil.copy(plot_curves(run), model / "curves.png")
        sections.append("![Losses of all stages](curves.png)\n")
    sections += [_scores(run), LIMITS]
    card = model / "README.md"
    write_whole(card, "\n".join(sections).encode())
    return card


def _origin(facts: Mapping[str, Any]) -> str:
    recipe = facts["recipe"]
    preset = recipe["preset"]
    size = preset.get("modalities", preset)["image"]["autoencoder"]["sample_size"]  # older runs have no such level
    precision = {"no": "float32"}.get(facts["mixed_precision"], facts["mixed_precision"])
    return f"""\
## Made by

    {facts["command"]}

- commit: {facts["commit"] or "unknown"}
- hardware: {facts["hardware"]}, precision: {precision}
- data: {recipe["pictures"]:,} postcards of {size}×{size} pixels, seed {recipe["seed"]}
"""


def _stages(run: Path, recipe: Mapping[str, Any]) -> str:
    hours = {stage: _hours(run / stage) for stage in STAGES}
    rows = [
        (stage, c["steps"], c["batch_size"], f"{c['learning_rate']:g}", c["seed"], hours[stage] or "")
        for stage in STAGES
        if (c := recipe[stage])
    ]
    return "## Stages\n\n" + _table(("stage", "steps", "batch", "learning rate", "seed", "hours"), rows)


def _scores(run: Path) -> str:
    measured = read_measurements(run)
    rows = [(stage, f"{figures['accuracy']:.3f}") for stage, figures in measured.items()]
    text = "## Scores\n\nOf the stages before the diffuser, on fresh postcards (see `evaluation/stages.py`):\n\n"
    text += _table(("stage", "accuracy"), rows)
    evaluation = [(name, f"{value:.3f}") for name, value in _figures(_read(run / EVALUATION))]
    if evaluation:
        text += "\nOf the whole model, by `vd evaluate postcards`:\n\n" + _table(("score", "value"), evaluation)
    return text


def _figures(report: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a nested report under dotted names, without its per-attribute tables."""
    for name, value in report.items():
        if isinstance(value, Mapping) and name != "per_attribute":
            yield from _figures(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            yield prefix + name, float(value)


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def _hours(stage: Path) -> str:
    whole = checkpoints(stage)
    seconds = read_state(whole[-1]).get("seconds") if whole else None
    return "" if seconds is None else f"{seconds / 3600:.2f}"


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def _program(count: int) -> list[str]:
    if count == 1:
        return ["vd"]
    launch = f"accelerate launch --multi_gpu --num_processes {count} --num_machines 1"
    return [*launch.split(), "-m", "versatile_diffusion.cli"]


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def _hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor() or platform.machine()}, {os.cpu_count()} cores"
