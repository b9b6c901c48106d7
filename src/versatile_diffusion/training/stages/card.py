"""The model card: where the weights come from, and what they can do, with the metadata that the hub reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from pydantic import TypeAdapter

from versatile_diffusion.files import write_whole
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.training.loop.metric_logger import LOG
from versatile_diffusion.training.report.curves import plot_curves
from versatile_diffusion.training.report.hub_metadata import hub_metadata
from versatile_diffusion.training.report.markdown import markdown_table
from versatile_diffusion.training.stages.measurements import read_measurements
from versatile_diffusion.training.stages.training_run import RECORD, TrainingRun

EVALUATION = "evaluation.json"
"""An evaluation of the model, which a card reports if it lies in the run's folder."""

Facts = dict[str, object]


@dataclass(frozen=True)
class CardTexts:
    """What a world says of its model.

    Attributes:
        title: the heading.
        introduction: what the model is and does.
        data: what it learnt from, in a line.
        measured_on: what its stages were measured on.
        evaluation: the command that evaluates it.
        limits: what it cannot do.
        license: of the weights, as the hub names it.
        tags: more words to find it by.
        prompts: that are tried first.
    """

    title: str
    introduction: str
    data: str
    measured_on: str
    evaluation: str
    limits: str
    license: str = "apache-2.0"
    tags: Sequence[str] = ()
    prompts: Sequence[str] = ()


def write_card(run: TrainingRun, model: Path, stages: Sequence[str], texts: CardTexts) -> Path:
    """Writes README.md beside the weights of a model, from what its run left behind.

    Args:
        run: how the model was made; an evaluation of it is reported if it lies there as evaluation.json.
        model: folder of the saved model.
        stages: names of the run's stages, in order.
        texts: what the world says of it.

    Raises:
        FileNotFoundError: if the run has trained nothing yet.
    """
    facts = _read(run.folder / RECORD)
    if not facts:
        raise FileNotFoundError(f"{run.folder} is not the folder of a run: it has no {RECORD}.")
    start = f"the model {facts['start']!r}" if facts.get("start") else "random weights"
    sections = [
        f"# {texts.title}\n\n{texts.introduction}It was trained from {start}.\n",
        _origin(facts, texts),
        _stages(run, stages),
    ]
    folders = {stage: run.stage_folder(stage) for stage in stages}
    if find_spec("matplotlib") and any((folder / LOG).exists() for folder in folders.values()):
        shutil.copy(plot_curves(folders, run.folder / "curves.png"), model / "curves.png")
        sections.append("![Losses of all stages](curves.png)\n")
    sections += [_scores(run.folder, texts), f"## Limits\n\n{texts.limits}"]
    card = model / "README.md"
    write_whole(card, str(ModelCard(f"---\n{_metadata(texts)}\n---\n\n" + "\n".join(sections))).encode())
    return card


def _metadata(texts: CardTexts) -> str:
    return ModelCardData(  # pyright: ignore[reportUnknownMemberType] - huggingface_hub leaves a parameter untyped
        language="en",
        license=texts.license,
        tags=["image-to-text", "image-to-image", "diffusion", "versatile-diffusion", *texts.tags],
        model_name=texts.title,
        **hub_metadata([Flow(TEXT.name, IMAGE.name)], texts.prompts),
    ).to_yaml()


def _origin(facts: Facts, texts: CardTexts) -> str:
    precision = "float32" if facts["mixed_precision"] == "no" else facts["mixed_precision"]
    return f"""\
## Made by

    {facts["command"]}

- commit: {facts["commit"] or "unknown"}
- hardware: {facts["hardware"]}, precision: {precision}
- data: {texts.data}
"""


def _stages(run: TrainingRun, stages: Sequence[str]) -> str:
    rows: list[tuple[object, ...]] = []
    for stage in stages:
        config, hours = run.config(stage), run.hours(stage)
        how = (config.steps, config.batch_size, f"{config.learning_rate:g}", config.seed)
        rows.append((stage, *how, "" if hours is None else f"{hours:.2f}"))
    return "## Stages\n\n" + markdown_table(("stage", "steps", "batch", "learning rate", "seed", "hours"), rows)


def _scores(run: Path, texts: CardTexts) -> str:
    rows = [(stage, f"{figures['accuracy']:.3f}") for stage, figures in read_measurements(run).items()]
    text = f"## Scores\n\nOf the stages before the diffuser, on {texts.measured_on}:\n\n"
    text += markdown_table(("stage", "accuracy"), rows)
    evaluation = [(name, f"{value:.3f}") for name, value in _figures(_read(run / EVALUATION))]
    if evaluation:
        text += f"\nOf the whole model, by `{texts.evaluation}`:\n\n" + markdown_table(("score", "value"), evaluation)
    return text


def _figures(report: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yields the numbers of a nested report under dotted names, without its tables of single attributes."""
    for name, value in report.items():
        if isinstance(value, Mapping) and name != "per_attribute":
            yield from _figures(TypeAdapter(Facts).validate_python(value), f"{prefix}{name}.")
        elif isinstance(value, int | float):
            yield prefix + name, float(value)


def _read(path: Path) -> Facts:
    return TypeAdapter(Facts).validate_python(json.loads(path.read_text()) if path.exists() else {})
