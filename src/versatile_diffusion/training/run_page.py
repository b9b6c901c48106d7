"""The page of a run: one file that shows how it goes, whole at any time, and what to do with what it gives."""

from __future__ import annotations

import base64
import html
import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from string import Template
from typing import cast

from PIL import Image

from versatile_diffusion.files import write_whole
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.training.curves import plot_curves
from versatile_diffusion.training.metric_logger import LOG, read_log
from versatile_diffusion.training.settings import Trained, TrainingSettings
from versatile_diffusion.training.sheet import preview_sheet
from versatile_diffusion.training.task import Preview

PAGE, SHEETS, STATE = "index.html", "sheets", "training"
_TEMPLATE = Path(__file__).with_name("run_page.html")
_SHOWN = 12
"""Sheets on a page; of more, some between the first and the last are left out."""


class RunPage:
    """Writes index.html in the folder of a run, with sheets of what the model makes.

    Args:
        folder: of the run.
        settings: of the run.
        told: returns what is learnt from, in words, as it is known by now.
        flows: that are learnt.
        start: the model that a LoRA belongs to; the one that the settings name if None.
    """

    def __init__(
        self,
        folder: Path,
        settings: TrainingSettings,
        told: Callable[[], str],
        flows: Sequence[Flow],
        start: str | None = None,
    ) -> None:
        self.folder, self.settings, self.told, self.flows = folder, settings, told, flows
        self.start = settings.start if start is None else start

    def show(self, step: int, preview: Preview) -> None:
        """Draws the sheet of a step, and writes the page anew."""
        content = BytesIO()
        preview_sheet(preview, f"step {step}").save(content, "PNG")
        write_whole(self.folder / SHEETS / f"step-{step:08d}.png", content.getvalue())
        self.write("It is still being trained.")

    def finish(self, target: Path) -> None:
        """Writes the page of a run that is done."""
        self.write(f"It is done: {target}.")

    def write(self, state: str) -> None:
        """Writes the page, whole or not at all.

        Args:
            state: how far the run is.
        """
        lines = read_log(self.folder / STATE / LOG)
        settings: dict[str, object] = json.loads(self.settings.model_dump_json())
        text = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
            title=html.escape(f"Training on {self.settings.data}"),
            state=html.escape(state),
            figures=_table(dict(self._figures(lines))),
            curves=self._curves(),
            sheets="\n".join(map(_sheet, self._chosen_sheets())) or "<p>There is none yet.</p>",
            settings=_table({name: _told(value) for name, value in settings.items()}),
            commands="\n".join(map(_command, self.commands)),
        )
        write_whole(self.folder / PAGE, text.encode())

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """What one may do with the run, and the command that does it."""
        if self.settings.train is Trained.LORA:
            model = ["--model", self.start, "--lora", f"{self.folder / 'lora'}:1.0"]
        else:
            model = ["--model", str(self.folder / "model")]
        flow = self.flows[0]
        context = "a prompt" if modality_spec(flow.context).codec.inline else "FILE"
        return [
            (
                "Go on, or on to more steps",
                ["vd", "train", str(self.folder / "run.yaml"), "--output", str(self.folder)],
            ),
            ("Use it", ["vd", str(flow), context, *model]),
            ("Look at it in the studio", ["vd", "app", *model]),
            ("Serve it", ["vd", "serve", *model]),
        ]

    def _figures(self, lines: Sequence[dict[str, float]]) -> Iterator[tuple[str, str]]:
        yield "data", f"{self.settings.data}, {self.told()}"
        yield "flows", ", ".join(map(str, self.flows))
        if lines:
            last = lines[-1]
            yield "step", f"{last['step']:,} of {self.settings.steps:,}"
            yield "time", f"{last['seconds'] / 60:.1f} minutes, {last['samples_per_second']:.1f} samples/s"
            yield "losses", ", ".join(f"{flow} {last[str(flow)]:.4f}" for flow in self.flows if str(flow) in last)

    def _curves(self) -> str:
        if not (find_spec("matplotlib") and (self.folder / STATE / LOG).exists()):
            return "<p>Install matplotlib to see them: pip install 'versatile-diffusion[train]'.</p>"
        file = plot_curves({"training": self.folder / STATE}, self.folder / "curves.png")
        return _image(file, "losses over steps")

    def _chosen_sheets(self) -> list[Path]:
        sheets = sorted((self.folder / SHEETS).glob("step-*.png"))
        if len(sheets) <= _SHOWN:
            return sheets
        return [sheets[round(i * (len(sheets) - 1) / (_SHOWN - 1))] for i in range(_SHOWN)]


def _table(rows: dict[str, str]) -> str:
    cells = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows.items())
    return f"<table>{''.join(cells)}</table>"


def _command(command: tuple[str, list[str]]) -> str:
    told, words = command
    return f"<p>{html.escape(told)}:</p><pre>{html.escape(shlex.join(words))}</pre>"


def _sheet(file: Path) -> str:
    step = int(file.stem.partition("-")[2])
    return f"<details open><summary>Step {step}</summary>{_image(file, f'what it makes at step {step}')}</details>"


def _image(file: Path, what: str) -> str:
    with Image.open(file) as image:
        width, height = image.size
    content = base64.b64encode(file.read_bytes()).decode()
    return f'<img alt="{what}" width="{width}" height="{height}" src="data:image/png;base64,{content}">'


def _told(value: object) -> str:
    return ", ".join(map(str, cast("list[object]", value))) or "all" if isinstance(value, list) else str(value)
