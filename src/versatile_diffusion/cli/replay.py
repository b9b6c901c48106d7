"""`vd replay`: an output made again from its record."""
# pyright: strict

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from versatile_diffusion.bundled import bundled_weights
from versatile_diffusion.cli.console import note, results, say, warnings_as_notes
from versatile_diffusion.cli.files import read_tensor, require_writable
from versatile_diffusion.cli.opening import open_pipeline
from versatile_diffusion.cli.options import Backend, Dtype, Loras, ModelOptions, Overwrite, Weights
from versatile_diffusion.modalities.registry import modality_names, modality_spec

if TYPE_CHECKING:
    from torch import Tensor

    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.provenance.stored_record import StoredRecord

Finding = dict[str, Any]
"""How an output compares with the one before, as JSON tells it; see `comparison.compared`."""


Opened = tuple[ModelOptions, tuple[str, ...], tuple[str, ...]]
"""A model as it was opened, its LoRAs and the flows that it was opened for."""


@dataclass(frozen=True)
class Opening:
    """Which model to open, where it is not as the recipe says."""

    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="The model of the recipe. A recipe alone opens none but the bundled one.",
            rich_help_panel="Model",
        ),
    ] = None
    device: Annotated[
        str, typer.Option(help="auto, cuda, mps or cpu; auto is as before, if there is one.", rich_help_panel="Model")
    ] = "auto"
    dtype: Annotated[Dtype, typer.Option(help="auto is as before.", rich_help_panel="Model")] = Dtype.AUTO
    lora: Loras = None


def replay(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A picture, or what --json printed.", exists=True, dir_okay=False, show_default=False
        ),
    ],
    opening: Opening,
    given: Annotated[
        list[Path] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            help="A picture, mask or array that it was made from, where the recipe does not hold it; may be repeated.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="A file for the picture made again.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Make a picture or a text again from its recipe, and say whether it is the same.

    \b
    vd replay outputs/a-red-tent-7.png
    vd replay edited.png --input photo.jpg --output again.png
    vd replay captions.json
    vd replay picture.png --model my-folder
    """
    from versatile_diffusion.provenance.output_files import read_outputs

    require_writable([output] if output else [], overwrite)
    kept = [(one.with_inputs(_values(given or [])), before) for one, before in read_outputs(file)]
    if output and (len(kept) != 1 or modality_spec(kept[0][0].record.to).codec.inline):
        raise ValueError("--output is for one picture: leave it out.")
    opened: dict[Opened, VersatileDiffusionPipeline] = {}
    findings = [_replayed(one, before, opening, opened, output) for one, before in kept]
    if as_json:
        print(json.dumps(findings, indent=2, ensure_ascii=False))
        return
    for finding in findings:
        _show(finding, output)


# ---- details ----


def _values(files: Sequence[Path]) -> list[Tensor]:
    """What the user's files may stand for in a record."""
    from versatile_diffusion.provenance.inputs import mask_value

    values: list[Tensor] = []
    for file in files:
        if file.suffix.lower() in (".safetensors", ".npz", ".npy"):
            array = read_tensor(file)
            values += [array, array[None]]
            continue
        items, failures = _items(file)
        try:
            values += [*items, mask_value(file)]
        except ValueError:  # black, or no image at all, and so no mask
            values += items
        if not items:
            raise ValueError(failures)
    return values


def _items(file: Path) -> tuple[list[Tensor], str]:
    """The values of a file as data of each modality that can read it, and why another could not."""
    items: list[Tensor] = []
    failure = f"Cannot read {file}."
    for codec in (modality_spec(name).codec for name in modality_names()):
        if codec.inline:
            continue
        try:
            items += [value for value in codec.values(codec.read(file)) if not isinstance(value, str)]
        except ValueError as error:
            failure = str(error) if file.suffix.lower() in codec.suffixes else failure
    return items, failure


def _replayed(
    kept: StoredRecord,
    before: object,
    opening: Opening,
    opened: dict[Opened, VersatileDiffusionPipeline],
    output: Path | None,
) -> Finding:
    """Makes an output again, and says how it compares with the one before."""
    from versatile_diffusion.provenance.comparison import compared, differences
    from versatile_diffusion.provenance.output_files import write_output
    from versatile_diffusion.provenance.recording import computed_by
    from versatile_diffusion.provenance.replay import replayed
    from versatile_diffusion.provenance.stored_record import StoredRecord

    kept.require_inputs()
    options, loras = _opening(kept, opening)
    if (key := (options, loras, _flows(kept))) not in opened:
        opened[key] = open_pipeline(options, _flows(kept), "replay", loras)
    pipe = opened[key]
    with warnings_as_notes():
        item = replayed(pipe, kept)
    computed, to = computed_by(pipe, options.model, loras, options.weights), kept.record.to
    codec = modality_spec(to).codec
    if output:
        again = StoredRecord(kept.record.model_copy(update={"computed": computed}), kept.inputs)
        write_output(output, to, item, {"command": "replay"}, again)
    finding: Finding = {
        **compared(before, codec.decode(codec.encode(item)) if before is not None else item),
        "because": differences(kept.record.computed, computed),
    }
    return {**finding, to: item} if codec.inline else finding


def _opening(kept: StoredRecord, opening: Opening) -> tuple[ModelOptions, tuple[str, ...]]:
    """The model as it was, as far as the user says nothing else. A recipe names no folder or hub that is looked at."""
    before = kept.record.computed
    if opening.model is None and bundled_weights(before.model) is None:
        raise ValueError(f"It was made with the model {before.model!r}: say where that is with --model.")
    if before.loras and opening.lora is None:
        raise ValueError(f"It was made with the LoRA {', '.join(before.loras)}: say where that is with --lora.")
    options = ModelOptions(
        model=opening.model or before.model,
        device=opening.device if opening.device != "auto" else _device(before.device),
        dtype=Dtype(before.dtype) if opening.dtype is Dtype.AUTO else opening.dtype,
        weights=None if before.weights is None else Weights(before.weights),
        backend=None if before.backend is None else Backend(before.backend),
    )
    return options, tuple(opening.lora or ())


def _flows(kept: StoredRecord) -> tuple[str, ...]:
    """What the model is opened for."""
    contexts = (*kept.record.contexts, *kept.record.negative)
    return tuple(dict.fromkeys(f"{context.modality}-to-{kept.record.to}" for context in contexts))


def _device(before: str) -> str:
    """That of the recipe, if there is one here."""
    from versatile_diffusion.devices import choose_device

    try:
        return str(choose_device(before))
    except ValueError:
        return "auto"


def _show(finding: Finding, output: Path | None) -> None:
    told = ("same", "difference", "verdict", "because")
    for words in (value for key, value in finding.items() if key not in told):
        results.print(Text(str(words)))
    if output is not None:
        results.print(Text(str(output)))
    say(str(finding["verdict"]), "bold green" if finding["same"] else "bold")
    if finding["same"] is False:
        for reason in finding["because"] or ["Another processor or number of threads may round otherwise."]:
            note(reason)
