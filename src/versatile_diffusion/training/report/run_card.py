"""The model card of a run on a user's data: what it learnt from, how, and how it is used."""

from __future__ import annotations

import shlex
import shutil
import time
from collections import Counter
from collections.abc import Mapping
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
from versatile_diffusion.fields import flags
from versatile_diffusion.files import write_whole
from versatile_diffusion.training.loop.machine import commit, hardware, program
from versatile_diffusion.training.loop.metric_logger import LOG, NO_LOSS, VALIDATION, read_log
from versatile_diffusion.training.report.markdown import markdown_table
from versatile_diffusion.training.report.run_page import STATE, RunPage, told_settings
from versatile_diffusion.training.settings.choices import Trained
from versatile_diffusion.training.settings.training_settings import TrainingSettings

CARD, SHEET = "README.md", "sheet.png"
_LICENCES = ("license", "licence", "licenses", "licences", "rights")
"""How columns are called that tell under which terms a sample may be used."""
_PACKAGE = Path(__file__).parents[2]
_SECONDS = 5.0
"""How long a data set is asked for them."""


def write_run_card(page: RunPage, target: Path) -> Path:
    """Writes README.md, and a sheet of what the model makes, beside what was trained.

    Args:
        page: of the run.
        target: the folder of a LoRA or a model.
    """
    if page.sheets:
        shutil.copy(page.sheets[-1], target / SHEET)
    parts = [_introduction(page), _use(page), _data(page), _training(page), _losses(page), _settings(page.settings)]
    content = f"---\n{_metadata(page)}\n---\n\n" + "\n".join(parts)
    write_whole(target / CARD, str(ModelCard(content)).encode())
    return target / CARD


def run_command(settings: TrainingSettings, folder: Path) -> list[str]:
    """Returns the words of the command that trains with these settings, as it was started here."""
    words = [*program(), *settings.command, "--output", str(folder)]
    names = flags(type(settings))
    for name, info in type(settings).model_fields.items():
        value: object = getattr(settings, name)
        if name in settings.not_options or value == info.default:
            continue
        flag = names[name].name or f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words += [flag] if value else ["--set", f"{name}=false"]
        elif isinstance(value, tuple):
            words += [flag, *map(str, cast("tuple[object, ...]", value))]
        else:
            words += ["--set", f"{name}=none"] if value is None else [flag, str(value)]
    return words


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


def _metadata(page: RunPage) -> str:
    settings = page.settings
    of_hub = page.start.count("/") == 1 and not Path(page.start).expanduser().exists()
    return ModelCardData(  # pyright: ignore[reportUnknownMemberType] - huggingface_hub leaves a parameter untyped
        license=base_licence(page.start),
        base_model=page.start if of_hub else None,
        datasets=[settings.data.removeprefix(HUB)] if settings.data.startswith(HUB) else None,
        library_name="versatile-diffusion",
        tags=[*(["lora"] if settings.train is Trained.LORA else []), *map(str, page.flows), "diffusion"],
    ).to_yaml()


def _introduction(page: RunPage) -> str:
    settings = page.settings
    what = "A LoRA of" if settings.train is Trained.LORA else "A model that began as"
    sheet = f"\n![What it makes of contexts: originals above, its own below]({SHEET})\n" if page.sheets else ""
    licence = base_licence(page.start)
    return (
        f"# {Path(settings.data).name or settings.data}\n\n{what} {page.start}, trained on {settings.data} for "
        f"{', '.join(map(str, page.flows))}.\n{sheet}\n"
        f"The licence of {page.start}: {licence or 'unknown, since its card is not here'}.\n"
    )


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


def _training(page: RunPage) -> str:
    lines = read_log(page.folder / STATE / LOG)
    hours = f"{lines[-1]['seconds'] / 3600:.2f}" if lines else "unknown"
    return f"""\
## Training

    {shlex.join(run_command(page.settings, page.folder))}

- version: {__version__}, commit: {commit() or "unknown"}
- hardware: {hardware()}
- hours: {hours}
"""


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
