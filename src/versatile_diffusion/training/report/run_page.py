"""The page of a run: one file that shows how it goes, whole at any time, and what to do with what it gives."""

from __future__ import annotations

import base64
import html
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import BytesIO
from itertools import islice
from pathlib import Path
from string import Template
from typing import cast

from PIL import Image

from versatile_diffusion.files import write_whole
from versatile_diffusion.flows import Flow
from versatile_diffusion.training.loop.metric_logger import LOG, read_log
from versatile_diffusion.training.loop.task import Preview
from versatile_diffusion.training.report.curves import curves_of_page
from versatile_diffusion.training.report.run_commands import RunPlaces, model_options, run_commands, use_command
from versatile_diffusion.training.report.sheet import preview_sheet
from versatile_diffusion.training.settings.choices import Trained
from versatile_diffusion.training.settings.training_settings import TrainingSettings

PAGE, SHEETS, STATE = "index.html", "sheets", "training"
_TEMPLATE = Path(__file__).with_name("run_page.html")
UNFINISHED = "It is still being trained."
_SHOWN = 12
"""Sheets on a page; of more, some between the first and the last are left out."""
_NAMED = 20
"""Samples that are named of those that cannot be used."""


@dataclass(frozen=True)
class LearntData:
    """What is learnt from.

    Attributes:
        about: how many samples are learnt, in words.
        validation: samples that are kept apart.
        told: how many were left out, in a sentence without its end.
        skipped: why what samples were left out, by their names.
    """

    about: str
    validation: int = 0
    told: str = "no samples were left out"
    skipped: Mapping[str, str] = field(default_factory=dict[str, str])


class RunPage:
    """Writes index.html in the folder of a run, with sheets of what the model makes.

    Args:
        folder: of the run.
        settings: of the run.
        data: returns what is learnt from, as it is known by now.
        flows: that are learnt.
        start: the model that a LoRA belongs to; the one that the settings name if None.
        places: where the run is kept; in the folder alone if None.
    """

    def __init__(
        self,
        folder: Path,
        settings: TrainingSettings,
        data: Callable[[], LearntData],
        flows: Sequence[Flow],
        start: str | None = None,
        places: RunPlaces | None = None,
    ) -> None:
        self.folder, self.settings, self.data, self.flows = folder, settings, data, flows
        self.start = settings.start if start is None else start
        own = folder / ("lora" if settings.train is Trained.LORA else "model")
        self.places = RunPlaces(folder, own) if places is None else places

    def show(self, step: int, preview: Preview) -> None:
        """Draws the sheet of a step, and writes the page anew."""
        self.draw(f"step-{step:08d}.png", f"step {step}", preview)
        self.write(UNFINISHED)

    def draw(self, name: str, title: str, preview: Preview) -> None:
        """Draws a sheet.

        Args:
            name: of its file, which ends in the step.
            title: at its top.
            preview: what is on it.
        """
        content = BytesIO()
        preview_sheet(preview, title).save(content, "PNG")
        write_whole(self.folder / SHEETS / name, content.getvalue())

    def finish(self, target: Path) -> None:
        """Writes the page of a run that is done."""
        self.write(f"It is done: {target}.")

    @property
    def sheets(self) -> list[Path]:
        """The sheets that were drawn, oldest first."""
        return sorted((self.folder / SHEETS).glob("*step-*.png"))

    @property
    def lines(self) -> list[dict[str, float]]:
        """The lines of the log."""
        return read_log(self.folder / STATE / LOG)

    @property
    def progress(self) -> tuple[int, int]:
        """How many steps are taken, and how many there are to be."""
        lines = self.lines
        return int(lines[-1]["step"]) if lines else 0, self.settings.steps

    def curves(self) -> list[str]:
        """Draws the curves, each as an SVG."""
        return curves_of_page(self.lines)

    def write(self, state: str) -> None:
        """Writes the page, whole or not at all.

        Args:
            state: how far the run is.
        """
        taken, wanted = self.progress
        text = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
            title=html.escape(f"Training on {self.settings.data}"),
            state=html.escape(state),
            progress=f'<progress max="{wanted}" value="{taken}"></progress>',
            figures="\n".join(_tile(name, told) for name, told in self.figures()),
            curves=self._curves(),
            sheets=self._sheets(),
            data=_table(dict(self._data())),
            settings=_settings(told_settings(self.settings)),
            commands="\n".join(map(_command, self.commands)),
        )
        write_whole(self.folder / PAGE, text.encode())

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """What one may do with the run, and the command that does it."""
        return run_commands(self.settings, self.flows, self.start, self.places)

    @property
    def use(self) -> list[str]:
        """The command that uses what is trained."""
        return use_command(self.flows, model_options(self.settings, self.start, self.places.target))

    def figures(self) -> Iterator[tuple[str, str]]:
        """Yields figures of how it goes, each under what it is called."""
        lines = self.lines
        if not lines:
            yield "data", self.data().about
            return
        last = lines[-1]
        yield "steps", f"{last['step']:,} of {self.settings.steps:,}"
        yield "minutes", f"{last['seconds'] / 60:.1f}"
        yield "samples a second", f"{last['samples_per_second']:.3g}"
        if "memory" in last:
            yield "memory", f"{last['memory'] / 2**30:.1f} GiB"
        if last.get("skipped"):
            yield "steps skipped, beyond fp16", f"{last['skipped']:,}"
        for flow in map(str, self.flows):
            if flow in last:
                yield flow, f"{last[flow]:.4f}"

    def _data(self) -> Iterator[tuple[str, str]]:
        data = self.data()
        yield "data", self.settings.data
        yield "learnt from", data.about
        yield "kept apart, to measure on", f"{data.validation:,} samples"
        yield "flows", ", ".join(map(str, self.flows))
        yield "left out", f"{data.told}." + (" See skipped.jsonl." if data.skipped else "")
        for key, reason in islice(data.skipped.items(), _NAMED):
            yield f"{key:.120}", f"{reason:.300}"
        if len(data.skipped) > _NAMED:
            yield "…", f"and {len(data.skipped) - _NAMED:,} more"

    def _curves(self) -> str:
        if not find_spec("matplotlib"):
            return "<p>Install matplotlib to see them: pip install 'versatile-diffusion[train]'.</p>"
        return "\n".join(f"<figure>{drawn}</figure>" for drawn in self.curves()) or "<p>There are none yet.</p>"

    def _sheets(self) -> str:
        sheets = self.sheets
        if not sheets:
            return "<p>There is none yet.</p>"
        if len(sheets) > _SHOWN:
            sheets = [sheets[round(i * (len(sheets) - 1) / (_SHOWN - 1))] for i in range(_SHOWN)]
        last = len(sheets) - 1
        slider = f'<input type="range" min="0" max="{last}" value="{last}" aria-label="which sheet" hidden>'
        return "\n".join([slider, *map(_sheet, sheets)])


def told_settings(settings: TrainingSettings) -> dict[str, str]:
    """Returns the settings of a run in words, without those that are not set."""
    found: dict[str, str] = {}
    for name, value in flattened(settings.model_dump(mode="json")):
        if isinstance(value, list):
            value = ", ".join(map(str, cast("list[object]", value))) or ("all" if name == "flows" else None)
        if value is not None:
            found[name] = str(value)
    return found


def flattened(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yields all values of nested mappings, under names with dots."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flattened(cast("dict[str, object]", value), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _tile(name: str, told: str) -> str:
    return f'<div class="tile"><b>{html.escape(told)}</b><span>{html.escape(name)}</span></div>'


def _table(rows: Mapping[str, str]) -> str:
    cells = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows.items())
    return f"<table>{''.join(cells)}</table>"


def _settings(settings: Mapping[str, str]) -> str:
    rows = (f"<div><span>{name}</span><b>{html.escape(value)}</b></div>" for name, value in settings.items())
    return f'<div class="settings">{"".join(rows)}</div>'


def _command(command: tuple[str, list[str]]) -> str:
    told, words = command
    code = html.escape(shlex.join(words))
    return f'<div class="command"><p>{html.escape(told)}</p><code>{code}</code><button>copy</button></div>'


def _sheet(file: Path) -> str:
    stage, _, number = file.stem.rpartition("step-")
    told = f"Step {int(number):,}" + (f" of {stage.partition('-')[2].strip('-').replace('_', ' ')}" if stage else "")
    image = _image(file, f"what it makes at {told.lower()}")
    return f'<figure data-step="{int(number)}"><figcaption>{told}</figcaption>{image}</figure>'


def _image(file: Path, what: str) -> str:
    with Image.open(file) as image:
        width, height = image.size
    content = base64.b64encode(file.read_bytes()).decode()
    return f'<img alt="{what}" width="{width}" height="{height}" src="data:image/png;base64,{content}">'
