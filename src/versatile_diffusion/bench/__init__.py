"""Benchmarks: what `vd bench` measures, each in a module of its own whose `measure` takes settings and gives a result.

Nothing here imports PyTorch before a benchmark runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from versatile_diffusion.bundled import DRAWN_WORLD
from versatile_diffusion.files import write_whole

if TYPE_CHECKING:
    from versatile_diffusion.bench.report import Report, Result
    from versatile_diffusion.model_presets import Preset

NAMES = (
    "startup",
    "generation",
    "optimus",
    "diffuser",
    "training",
    "sizes",
    "memory",
    "loading",
    "picture",
    "compiled",
)
"""Benchmarks, which are modules here, in the order in which they run."""

IF_NAMED = ("picture", "compiled")
"""Those that run only if they are named, because they take so long."""


def run(
    names: Sequence[str] = (),
    rounds: int = 5,
    json_path: Path | None = None,
    *,
    model: str = DRAWN_WORLD,
    steps: int = 25,
    cache: Path | None = None,
    preset: Preset | None = None,
    dtype: str = "auto",
    show: Callable[[Result], None] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Report:
    """Runs benchmarks, and returns what they found.

    Args:
        names: The names of benchmarks; if there are none, all of them run but `IF_NAMED`.
        rounds: How often each work is timed; medians are reported.
        json_path: A file to write the report to, in a folder that is made if it is not there.
        model: The model that `generation` runs.
        steps: How many steps the sampler takes in `generation` and `picture`.
        cache: A folder that keeps the large random models of `loading` and `picture` for the next time.
        preset: The sizes of the large model; the official ones by default.
        dtype: What numbers `generation`, `diffuser`, `picture` and `compiled` compute; see `devices.choose_dtype`.
        show: Called with each result as soon as it is there.
        progress: Called with what is being done, by the benchmarks that take long.

    Raises:
        ValueError: If there is no such benchmark, or there are no rounds.
    """
    from versatile_diffusion.bench.report import Machine, Report, Settings

    if unknown := [name for name in names if name not in NAMES]:
        raise ValueError(f"There is no benchmark {', '.join(unknown)}: take {', '.join(NAMES)}.")
    if rounds < 1:
        raise ValueError(f"There must be one round at least, got {rounds}.")
    settings = Settings(rounds, model, steps, cache, preset, dtype, progress)
    report = Report(Machine.here(), settings, {})
    for name in NAMES:
        if name not in names and (names or name in IF_NAMED):
            continue
        report.results[name] = import_module(f"{__name__}.{name}").measure(settings)
        if show is not None:
            show(report.results[name])
        if json_path is not None:  # after each, so that nothing is lost if the next one fails
            write_whole(json_path, (json.dumps(report.as_dict(), indent=2) + "\n").encode())
    return report
