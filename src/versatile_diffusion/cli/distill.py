# pyright: strict
"""`vd distill`: a LoRA with which a model samples in a few steps, without guidance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from versatile_diffusion.cli.console import note, results, say, warnings_as_notes
from versatile_diffusion.cli.files import require_writable_folder, slug
from versatile_diffusion.cli.flags import Taken, given
from versatile_diffusion.cli.plan import tell_plan
from versatile_diffusion.extras import require
from versatile_diffusion.training.settings.choices import TrackerName
from versatile_diffusion.training.settings.distillation_settings import DistillationOptions, DistillationSettings
from versatile_diffusion.training.settings.training_options import DATA, LEARNT, RUN
from versatile_diffusion.validation import checked

NOT_TAKEN = (
    "start",
    "train",
    "recipe",
    "min_snr",
    "noise_offset",
    "timestep_shift",
    "prediction_type",
    "zero_snr",
    "gradient_scales",
)
"""Options of training that mean nothing here."""


def distill(
    model: Annotated[
        str,
        typer.Argument(help="The model that is imitated: a bundled one, a folder, or a hub id.", show_default=False),
    ],
    options: Annotated[DistillationOptions, Taken(without=NOT_TAKEN)],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="A folder, a file, a pattern of files, or hub:owner/name, as of vd train.",
            rich_help_panel=DATA,
        ),
    ],
    flows: Annotated[
        list[str] | None,
        typer.Option("--flows", metavar="FLOW…", help="What is learnt; all by default.", rich_help_panel=LEARNT),
    ] = None,
    log_with: Annotated[
        list[TrackerName] | None,
        typer.Option(
            "--log-with",
            help="Where it can be followed, one or several; tensorboard by default.",
            rich_help_panel=RUN,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the LoRA and its run.", file_okay=False, rich_help_panel=RUN),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated.", rich_help_panel=RUN),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Tell what would happen: data, memory, time, disk; and train nothing.",
            rich_help_panel=RUN,
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what --dry-run finds as JSON.", rich_help_panel=RUN)
    ] = False,
) -> None:
    """Distill a model: a LoRA learns to make in a few steps without guidance what the model makes in many with it.

    \b
    vd distill postcards --data ./my-pictures --output fast
    vd distill shi-labs/versatile-diffusion --data ./my-pictures --flows text-to-image --dry-run
    vd text-to-image "a red tent" --lora fast --preset fast
    accelerate launch --num_processes 2 -m versatile_diffusion.cli distill postcards --data ./my-pictures

    The same command goes on where a run stopped.
    """
    from versatile_diffusion.training.settings.config import joined, parse_settings

    values = joined({"data": data, **given(options)}, parse_settings(settings or []))
    values |= {name: tuple(each) for name, each in (("flows", flows), ("log_with", log_with)) if each}
    chosen = checked(DistillationSettings, {**values, "start": model})
    run = output or Path("runs", f"{slug(Path(model).name)}-fast")
    require_writable_folder(run)
    if as_json and not dry_run:
        raise typer.BadParameter("It prints what --dry-run finds: give that, too.", param_hint="--json")
    require("datasets", "Training on your own data", "train")
    if dry_run:
        tell_plan(chosen, run, as_json)
    else:
        _distill(chosen, run)


def _distill(settings: DistillationSettings, run: Path) -> None:
    """Distills, and tells how to use what was made."""
    from versatile_diffusion.processes import processes
    from versatile_diffusion.training.own_data.distillation import Distillation
    from versatile_diffusion.training.report.publishing import publish, require_hub

    distillation = Distillation(settings, run, say)
    if settings.push_to_hub is not None:
        require_hub(settings.push_to_hub)
    with warnings_as_notes():
        target = distillation.train()
    if not processes().is_main_process:
        return
    if len(left_out := distillation.left_out):
        note(f"{left_out.told()}. {run / 'skipped.jsonl'} says why.")
    say(f"Distilled: {target}. How it went: {run / 'index.html'}")
    flow = distillation.learnt[0]
    results.print(f"vd {flow} … --model {distillation.start} --lora {target} --preset fast", markup=False)
    if settings.push_to_hub is not None:
        say(f"Uploaded: {publish(target, settings.push_to_hub)}")
