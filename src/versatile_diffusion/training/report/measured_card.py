"""Figures of an evaluation in a model card: as a section for people, and as the metadata that the hub shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from versatile_diffusion.evaluation.figures import EvaluationReport, FlowFigures
from versatile_diffusion.files import write_whole
from versatile_diffusion.training.report.markdown import markdown_table
from versatile_diffusion.training.report.run_card import CARD


def find_card(place: Path) -> Path:
    """Returns the model card that a file is, or that lies in a folder such as RUN/model or RUN/lora.

    Raises:
        ValueError: if there is none.
    """
    file = place / CARD if place.is_dir() else place
    if not file.is_file():
        raise ValueError(f"There is no model card {file!s:.300}: give a {CARD}, or the folder of what was trained.")
    return file


def enter_figures(file: Path, report: EvaluationReport, data: str) -> None:
    """Enters figures into a model card; those that it has of the same flows and data set give way.

    Args:
        file: the card.
        report: what was found.
        data: the data set, as the user calls it.
    """
    card = ModelCard.load(file, ignore_metadata_errors=True)
    text = card.text
    for flow in report.flows:
        heading = f"## Measured: {flow.flow} on {data}\n"
        before = re.compile(re.escape(heading) + r".*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
        text = f"{before.sub('', text).rstrip()}\n\n{heading}\n{_section(flow, report)}"
    card.text = text
    own = {(flow.flow, data) for flow in report.flows}
    told: object = card.data
    assert isinstance(told, ModelCardData)  # of a model card it is
    kept = [each for each in told.eval_results or [] if (each.task_type, each.dataset_name) not in own]
    told.model_name = told.model_name or file.parent.resolve().name
    told.eval_results = [*kept, *(result for flow in report.flows for result in _results(flow, data))]
    write_whole(file, str(card).encode())


def _section(flow: FlowFigures, report: EvaluationReport) -> str:
    rows = [
        (figure.name, f"{figure.estimate.value:.4g}", _between(figure.estimate.interval)) for figure in flow.figures
    ]
    how = "".join(f"- {name}: {value}\n" for name, value in {**report.protocol, **flow.protocol}.items())
    return f"{markdown_table(('measure', 'value', '95 %'), rows)}\n{how}"


def _between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4g} – {interval[1]:.4g}"


def _results(flow: FlowFigures, data: str) -> Iterator[EvalResult]:
    for figure in flow.figures:
        kind = figure.name.lower().replace(" ", "_")
        yield EvalResult(flow.flow, "custom", data, kind, round(figure.estimate.value, 4), metric_name=figure.name)
