"""The model card of a run on a user's data: what it learnt from, how, and how it is used."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import metadata
from pathlib import Path
from typing import cast

import yaml
from huggingface_hub import ModelCard, ModelCardData, metadata_load, try_to_load_from_cache  # pyright: ignore[reportUnknownVariableType] - typed in part
from pydantic import TypeAdapter

from versatile_diffusion import __version__
from versatile_diffusion.bundled import bundled_weights
from versatile_diffusion.data.captioned_data import CaptionedData
from versatile_diffusion.data.formats import HUB
from versatile_diffusion.fields import flag_name
from versatile_diffusion.files import write_whole
from versatile_diffusion.training.loop.machine import commit, hardware, program
from versatile_diffusion.training.loop.metric_logger import LOG, NO_LOSS, VALIDATION, read_log
from versatile_diffusion.training.report.hub_metadata import hub_metadata
from versatile_diffusion.training.report.markdown import markdown_table
from versatile_diffusion.training.report.run_page import STATE, RunPage, told_settings
from versatile_diffusion.training.settings.choices import Trained
from versatile_diffusion.training.settings.stage_settings import StageSettings
from versatile_diffusion.training.settings.training_settings import TrainingSettings

CARD, SHEET = "README.md", "sheet.png"
_LICENCES = ("license", "licence", "licenses", "licences", "rights")
"""How columns are called that tell under which terms a sample may be used."""
_PACKAGE = Path(__file__).parents[2]
_SECONDS = 5.0
"""How long a data set is asked for them."""


@dataclass(frozen=True)
class ToldRun:
    """A run as a card tells it.

    Attributes:
        settings: of the run.
        folder: of the run.
        start: the model that it began from.
        logs: the files of the logs, by the names of stages; the only one under "" where there are none.
        measured: what stages were measured to be able to do, by their names.
    """

    settings: TrainingSettings
    folder: Path
    start: str
    logs: Mapping[str, Path]
    measured: Mapping[str, Mapping[str, object]] = field(default_factory=dict[str, Mapping[str, object]])


def write_run_card(page: RunPage, target: Path, run: ToldRun) -> Path:
    """Writes README.md, and a sheet of what the model makes, beside what was trained.

    Args:
        page: of the run, or of its last stage.
        target: the folder of a LoRA or a model.
        run: all of it.
    """
    if page.sheets:
        shutil.copy(page.sheets[-1], target / SHEET)
    parts = [_introduction(page, run), _use(page), _data(page), _training(run), *_scores(run), _losses(page)]
    content = f"---\n{_metadata(page, run)}\n---\n\n" + "\n".join([*parts, _settings(run.settings)])
    write_whole(target / CARD, str(ModelCard(content)).encode())
    return target / CARD


def run_command(settings: TrainingSettings, folder: Path) -> list[str]:
    """Returns the words of the command that trains with these settings, as it was started here."""
    words = [*program(), *settings.command, "--output", str(folder)]
    for name, info in type(settings).model_fields.items():
        value: object = getattr(settings, name)
        if name in settings.not_options or value == info.default:
            continue
        flag = flag_name(type(settings), name)
        if isinstance(value, StageSettings):
            words += [word for change in _changes(name, value) for word in ("--set", change)]
        elif isinstance(value, Mapping):
            shares = cast("Mapping[str, object]", value)
            words += [flag, *(f"{key}={share}" for key, share in shares.items())]
        elif isinstance(value, bool):
            words += [flag] if value else ["--set", f"{name}=false"]
        elif isinstance(value, tuple):
            words += [flag, *map(str, cast("tuple[object, ...]", value))]
        else:
            words += ["--set", f"{name}=none"] if value is None else [flag, str(value)]
    return words


def _changes(name: str, stage: StageSettings) -> Iterator[str]:
    """What a stage changes, as `--set` takes it."""
    for key, value in stage.model_dump(mode="json", exclude_none=True).items():
        yield f"{name}.{key}={json.dumps(value)}"


def base_licence(start: str) -> str | None:
    """Returns the licence of a model, as its card here names it; that of this package, if it comes with it.

    None where nothing here tells.
    """
    bundled = bundled_weights(start)
    place = bundled or Path(start).expanduser()
    file: object = place / CARD if place.is_dir() else None
    if file is None and start.count("/") == 1 and not place.exists():
        file = try_to_load_from_cache(start, CARD)
    named = _named_licence(Path(file)) if isinstance(file, Path | str) else None
    if named is None and bundled is not None and bundled.is_relative_to(_PACKAGE):
        return metadata("versatile-diffusion")["License-Expression"].lower()
    return named


def data_licences(source: str) -> Counter[str]:
    """Returns the licences that a data set names, and how often: of its samples, and of its card.

    Of a large data set only the beginning is asked.
    """
    found: Counter[str] = Counter()
    if (of_all := _named_licence(Path(source) / CARD)) is not None:
        found[f"{of_all}, of all by its card"] += 1
    end = time.monotonic() + _SECONDS
    for row in CaptionedData(source).rows():
        found.update(str(row.facts[name]) for name in _LICENCES if row.facts.get(name))
        if time.monotonic() > end:
            break
    return found


def _named_licence(card: Path) -> str | None:
    if not card.is_file():
        return None
    try:
        found = TypeAdapter(dict[str, object] | None).validate_python(metadata_load(card))  # pyright: ignore - typed in part
    except (ValueError, OSError, yaml.YAMLError):  # no card of the hub
        return None
    named = (found or {}).get("license")
    return named if isinstance(named, str) else None


def _metadata(page: RunPage, run: ToldRun) -> str:
    settings = run.settings
    of_hub = run.start.count("/") == 1 and not Path(run.start).expanduser().exists()
    lora = settings.train is Trained.LORA
    return ModelCardData(  # pyright: ignore[reportUnknownMemberType] - huggingface_hub leaves a parameter untyped
        license="other" if settings.from_nothing else base_licence(run.start),
        base_model=run.start if of_hub else None,
        datasets=[settings.data.removeprefix(HUB)] if settings.data.startswith(HUB) else None,
        tags=[*(["lora"] if lora else []), *map(str, page.flows), "diffusion", "versatile-diffusion"],
        **hub_metadata(page.flows, lora=lora),
    ).to_yaml()


def _introduction(page: RunPage, run: ToldRun) -> str:
    settings, start = run.settings, run.start
    sheet = f"\n![What it makes of contexts: originals above, its own below]({SHEET})\n" if page.sheets else ""
    what = "A LoRA of" if settings.train is Trained.LORA else "A model that began as"
    began = f"{what} {start}, trained on {settings.data}"
    licence = f"\nThe licence of {start}: {base_licence(start) or 'unknown, since its card is not here'}.\n"
    if settings.from_nothing:
        began, licence = f"A model of the sizes of {settings.start}, which learnt all from {settings.data}", ""
    flows = ", ".join(map(str, page.flows))
    return f"# {Path(settings.data).name or settings.data}\n\n{began} for {flows}.\n{sheet}{licence}"


def _use(page: RunPage) -> str:
    return f"## Use it\n\n    {shlex.join(page.use)}\n"


def _data(page: RunPage) -> str:
    data = page.data()
    named = [f"{licence} ({count:,})" for licence, count in data_licences(page.settings.data).most_common(20)]
    return f"""\
## Data

- source: {page.settings.data}
- learnt from: {data.about}; {data.validation:,} samples kept apart to measure on
- {data.told}
- licences, as the data set names them: {", ".join(named) or "none is named"}
"""


def _training(run: ToldRun) -> str:
    last = {name: lines[-1] for name, file in run.logs.items() if (lines := read_log(file))}
    hours = f"{sum(line['seconds'] for line in last.values()) / 3600:.2f}" if last else "unknown"
    rows = [(name, f"{line['step']:,}", f"{line['seconds'] / 3600:.2f}") for name, line in last.items()]
    stages = f"\n{markdown_table(('stage', 'steps', 'hours'), rows)}" if len(run.logs) > 1 else ""
    return f"""\
## Training

    {shlex.join(run_command(run.settings, run.folder))}

- version: {__version__}, commit: {commit() or "unknown"}
- hardware: {hardware()}
- hours: {hours}
{stages}"""


def _scores(run: ToldRun) -> Iterator[str]:
    """What stages before the diffuser can do."""
    rows = [
        (stage, name, f"{value:.4g}")
        for stage, figures in run.measured.items()
        for name, value in figures.items()
        if isinstance(value, float)
    ]
    if rows:
        head = ("stage", "score", "on samples kept apart")
        yield f"## Scores of the encoders\n\n{markdown_table(head, rows)}"


def _losses(page: RunPage) -> str:
    lines = read_log(page.folder / STATE / LOG)
    last: Mapping[str, float] = lines[-1] if lines else {}
    kept: dict[str, list[float]] = {}
    for name, loss in last.items():
        if name.startswith(VALIDATION):
            kept.setdefault(name.removeprefix(VALIDATION).rpartition("/")[0], []).append(loss)
    rows = [
        (name, f"{loss:.4f}", f"{sum(kept[name]) / len(kept[name]):.4f}" if name in kept else "")
        for name, loss in last.items()
        if name not in NO_LOSS and not name.startswith(VALIDATION)
    ]
    head = ("flow", "training", "on samples kept apart, all levels of noise alike")
    return f"## Losses at the end\n\n{markdown_table(head, rows)}"


def _settings(settings: TrainingSettings) -> str:
    rows = list(told_settings(settings).items())
    return f"## Settings\n\n{markdown_table(('setting', 'value'), rows)}"
