"""What benchmarks found, as JSON and as tables."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from versatile_diffusion.bundled import DRAWN_WORLD

if TYPE_CHECKING:
    from versatile_diffusion.model_presets import Preset

_LIBRARIES = ("versatile-diffusion", "torch", "diffusers", "transformers")


@dataclass(frozen=True)
class Settings:
    """How to measure. `run` explains the attributes."""

    rounds: int = 5
    model: str = DRAWN_WORLD
    steps: int = 25
    cache: Path | None = None
    preset: Preset | None = None
    dtype: str = "auto"
    progress: Callable[[str], None] = lambda text: None

    @property
    def sizes(self) -> Preset:
        """Sizes of the large model."""
        from versatile_diffusion.model_presets import vd_four_flow

        return self.preset or vd_four_flow()


@dataclass(frozen=True)
class Figure:
    """Something that was measured.

    Attributes:
        name: The name of what was done.
        unit: "s", "bytes", "×" (a ratio) or a rate.
        rounds: What each round gave.
        at_most, at_least: What the median should reach, or None if nothing is demanded.
    """

    name: str
    unit: str
    rounds: Sequence[float]
    at_most: float | None = None
    at_least: float | None = None

    @property
    def median(self) -> float:
        """The figure that counts."""
        return statistics.median(self.rounds)

    @property
    def reached(self) -> bool | None:
        """Whether it is as it should be; None if nothing is demanded."""
        if self.at_most is None and self.at_least is None:
            return None
        low = float("-inf") if self.at_least is None else self.at_least
        high = float("inf") if self.at_most is None else self.at_most
        return low <= self.median <= high

    def as_dict(self) -> dict[str, object]:
        """Returns all of it, as JSON can hold it."""
        target = {"at_most": self.at_most, "at_least": self.at_least, "reached": self.reached}
        demanded = {key: value for key, value in target.items() if value is not None}
        return {"median": self.median, "unit": self.unit, "rounds": list(self.rounds), **demanded}


@dataclass(frozen=True)
class Result:
    """What a benchmark found.

    Attributes:
        title: The title of its table.
        figures: The figures, in their order.
        settings: What it measured with, besides the settings of all benchmarks.
    """

    title: str
    figures: Sequence[Figure]
    settings: Mapping[str, object] = field(default_factory=dict[str, object])

    def as_dict(self) -> dict[str, object]:
        """Returns all of it, as JSON can hold it."""
        return {"settings": dict(self.settings), "figures": {figure.name: figure.as_dict() for figure in self.figures}}

    def table(self) -> Table:
        """Returns a table of medians, the spread of the rounds, and targets."""
        how = ", ".join(f"{key} {value}" for key, value in self.settings.items())
        table = Table("", title=self.title, caption=how, title_justify="left", caption_justify="left")
        for column in ("median", "lowest – highest", "target"):
            table.add_column(column, justify="right")
        for figure in self.figures:
            spread = " – ".join(_number(limit(figure.rounds), figure.unit) for limit in (min, max))
            several = len(figure.rounds) > 1
            table.add_row(figure.name, _amount(figure.median, figure.unit), spread if several else "", _target(figure))
        return table


@dataclass(frozen=True)
class Machine:
    """The machine on which something was measured.

    Attributes:
        cpu: The name of the processor.
        cores: How many cores this process may use.
        threads: How many threads PyTorch uses.
        memory: Bytes of memory, or None where the system does not tell.
        accelerator: The name of the device, if there is one.
        busy: How many processes wanted to run in the last minute, before anything was measured: with more than a few
            tenths, times are noisy.
        versions: The versions of Python and the libraries.
    """

    cpu: str
    cores: int
    threads: int
    memory: int | None
    accelerator: str | None
    busy: float | None
    versions: Mapping[str, str]

    @classmethod
    def here(cls) -> Machine:
        """Describes this machine."""
        busy = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None  # before PyTorch is imported

        import torch

        affinity = getattr(os, "sched_getaffinity", None)
        names = getattr(os, "sysconf_names", {})
        known = {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= names.keys()
        return cls(
            cpu=_cpu(),
            cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
            threads=torch.get_num_threads(),
            memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else None,
            accelerator=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            busy=busy,
            versions={"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        )

    def __str__(self) -> str:
        parts = [f"{self.cpu}, {self.cores} cores, {self.threads} threads"]
        parts += [self.accelerator] if self.accelerator else []
        parts += [", ".join(f"{name} {number}" for name, number in self.versions.items())]
        parts += [f"load {self.busy} before"] if self.busy is not None else []
        return "; ".join(parts)


@dataclass(frozen=True)
class Report:
    """All findings, and where and how they were made."""

    machine: Machine
    settings: Settings
    results: dict[str, Result]

    def as_dict(self) -> dict[str, object]:
        """Returns all of it, as JSON can hold it."""
        settings = {name: getattr(self.settings, name) for name in ("rounds", "model", "steps")}
        benchmarks = {name: result.as_dict() for name, result in self.results.items()}
        return {"machine": asdict(self.machine), "settings": settings, "benchmarks": benchmarks}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.is_file() else None
    return named[1] if named else platform.processor() or platform.machine()


def _amount(value: float, unit: str) -> str:
    return f"{_number(value, unit)} {'GB' if unit == 'bytes' else unit}"


def _number(value: float, unit: str) -> str:
    return f"{value / 1e9:.3f}" if unit == "bytes" else f"{value:.3g}"


def _target(figure: Figure) -> str:
    if figure.reached is None:
        return ""
    limits = [("≤", figure.at_most), ("≥", figure.at_least)]
    wanted = " ".join(f"{sign} {_amount(limit, figure.unit)}" for sign, limit in limits if limit is not None)
    return f"[{'green' if figure.reached else 'red'}]{wanted}[/]"
