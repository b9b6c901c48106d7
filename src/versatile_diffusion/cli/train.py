# pyright: strict
"""Train a model."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from versatile_diffusion.bundled import DEFAULT_MODEL
from versatile_diffusion.cli.console import note, results, say, warnings_as_notes
from versatile_diffusion.cli.files import require_writable_folder, slug
from versatile_diffusion.cli.flags import given
from versatile_diffusion.cli.groups import group
from versatile_diffusion.cli.plan import tell_plan
from versatile_diffusion.cli.worlds import world_commands
from versatile_diffusion.extras import require
from versatile_diffusion.training.settings.choices import TrackerName
from versatile_diffusion.training.settings.stage_settings import Recipe
from versatile_diffusion.training.settings.training_options import LEARNT, RUN, TrainingOptions
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.validation import checked
from versatile_diffusion.worlds.base import TrainingRequest, World

HELP_OF_ALL = f"""Train a model: on your own data, or one of the bundled worlds from nothing.

\b
vd train ./my-pictures
vd train ./my-pictures --help
vd train {DEFAULT_MODEL}
"""

HELP = """Train a model of {name}. {about}

\b
vd train {name}
vd train {name} --stage kl --set kl.steps=5000 --set kl.batch_size=16
vd train {name} --config run.yaml --run runs/better
vd train {name} --start {model} --run runs/better
accelerate launch --multi_gpu --num_processes 2 --num_machines 1 -m versatile_diffusion.cli train {name}
"""


def train_command(world: World) -> tuple[Callable[..., None], str]:
    """Returns the command that trains a world's model, and its help."""
    stages = [stage.replace("_", "-") for stage in world.stages]

    def train(
        stage: Annotated[
            str,
            typer.Option(metavar=f"[{'|'.join(stages)}]", help="Stop after this one; those that it needs come first."),
        ] = stages[-1],
        run: Annotated[
            Path,
            typer.Option("--run", "--output", "-o", help="Folder of checkpoints, logs and the model.", file_okay=False),
        ] = Path("runs", world.name),
        resume: Annotated[
            bool,
            typer.Option(
                "--resume/--fresh", help="Go on from the last checkpoints, or move them aside and begin anew."
            ),
        ] = True,
        start: Annotated[
            str | None,
            typer.Option(help=f"A model to go on from, such as the bundled one: {DEFAULT_MODEL}.", metavar="MODEL"),
        ] = None,
        config: Annotated[
            Path | None, typer.Option(help="A YAML file of settings.", exists=True, dir_okay=False)
        ] = None,
        settings: Annotated[
            list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe; may be repeated.")
        ] = None,
    ) -> None:
        chosen = _stage(world, stage)
        require_writable_folder(run)
        from versatile_diffusion.devices import computes_bf16
        from versatile_diffusion.processes import processes
        from versatile_diffusion.training.settings.config import parse_settings, read_settings, renamed, with_settings

        given = [read_settings(config)] if config else []
        given.append(parse_settings(settings or []))
        changes, notes = zip(*(renamed(each, world.former_names) for each in given), strict=True)
        recipe = with_settings(world.recipe(), *changes)
        for told in dict.fromkeys(each for several in notes for each in several):
            note(told)
        if not resume and processes().is_main_process:
            _move_aside(run)
        processes().wait_for_everyone()
        world.train(TrainingRequest(recipe, run, chosen, "bf16" if computes_bf16() else "no", start))
        say(f"Trained: {chosen.replace('_', '-')}, in {run}.")

    return train, HELP.format(name=world.name, about=world.about, model=DEFAULT_MODEL)


DATA_HELP = f"""Train a model on your own data: a folder of pictures with captions in .txt, one with metadata.jsonl,
.csv or .parquet, tars of webdataset, parquet files, captions as COCO writes them, or hub:owner/name.

\b
vd train ./my-pictures
vd train ./my-pictures --start shi-labs/versatile-diffusion --train lora --flows text-to-image image-to-text
vd train ./my-pictures --start CompVis/stable-diffusion-v1-4 --encoders shi-labs/versatile-diffusion --recipe paper
vd train ./my-pictures --start preset:{DEFAULT_MODEL}
vd train run.yaml --set steps=20000
vd train ./my-pictures --save-config run.yaml
vd train ./my-pictures --dry-run
accelerate launch --multi_gpu --num_processes 2 --num_machines 1 -m versatile_diffusion.cli train ./my-pictures
torchrun --nproc-per-node 2 -m -- versatile_diffusion.cli train ./my-pictures --start MODEL

The same command goes on where a run stopped. Look at a data set first with: vd data show ./my-pictures
"""
_RUN_FILES = (".yaml", ".yml")
_learnt = partial(typer.Option, rich_help_panel=LEARNT)
_run = partial(typer.Option, rich_help_panel=RUN)


@dataclass(frozen=True)
class RunOptions:
    """What a run is told besides `TrainingOptions`."""

    flows: Annotated[list[str] | None, _learnt("--flows", metavar="FLOW…", help="What is learnt; all by default.")] = (
        None
    )
    log_with: Annotated[
        list[TrackerName] | None,
        _run("--log-with", help="Where it can be followed, one or several; tensorboard by default."),
    ] = None
    encoders: Annotated[
        list[str] | None,
        _learnt(
            "--encoders",
            metavar="MODEL…",
            help="Where encoders come from that the start lacks: models, or folders of CLIP or T5.",
        ),
    ] = None
    output: Annotated[
        Path | None, _run("--output", "-o", help="Folder of the run; runs/NAME by default.", file_okay=False)
    ] = None
    settings: Annotated[
        list[str] | None, _run("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated.")
    ] = None
    save_config: Annotated[
        Path | None, _run("--save-config", help="Write the settings to a file, and train nothing.", dir_okay=False)
    ] = None
    dry_run: Annotated[
        bool, _run("--dry-run", help="Tell what would happen: data, memory, time, disk; and train nothing.")
    ] = False
    as_json: Annotated[bool, _run("--json", help="Print what --dry-run finds as JSON.")] = False

    @property
    def several(self) -> dict[str, tuple[str, ...]]:
        """The settings that hold several values, of those that were given."""
        given = {"flows": self.flows, "encoders": self.encoders, "log_with": self.log_with}
        return {name: tuple(values) for name, values in given.items() if values}


def train_on_data_command(source: str) -> tuple[Callable[..., None], str]:
    """Returns the command that trains on a data set, or as a file of settings says, and its help."""

    def train(of_run: RunOptions, options: TrainingOptions) -> None:
        if of_run.as_json and not of_run.dry_run:
            raise typer.BadParameter("It prints what --dry-run finds: give that, too.", param_hint="--json")
        chosen = _settings(source, options, of_run)
        if of_run.save_config is not None:
            _save(chosen, of_run.save_config)
            return
        run = of_run.output or Path("runs", slug(Path(chosen.data).name))
        require_writable_folder(run)
        if of_run.dry_run:
            _tell(chosen, run, of_run.as_json)
        else:
            _train(chosen, run)

    return train, DATA_HELP


def _settings(source: str, options: TrainingOptions, of_run: RunOptions) -> TrainingSettings:
    """The settings of a file, if the source is one, as the options change them."""
    from versatile_diffusion.training.settings.config import joined, parse_settings, read_settings

    file = Path(source)
    values = read_settings(file) if file.suffix.lower() in _RUN_FILES else {"data": source}
    values = joined(values | given(options), parse_settings(of_run.settings or []))
    return checked(TrainingSettings, values | of_run.several)


def _save(settings: TrainingSettings, file: Path) -> None:
    """Writes settings to a file."""
    from versatile_diffusion.training.own_data.run_settings import write_settings

    write_settings(settings, file)
    say(f"Written: {file}. Train with: vd train {file}")


def _tell(settings: TrainingSettings, run: Path, as_json: bool) -> None:
    """Tells what would happen."""
    require("datasets", "Training on your own data", "train")
    if settings.from_nothing or settings.recipe is Recipe.PAPER:
        note("Memory is that of all flows at once; the stages before the last one take less.")
    tell_plan(settings, run, as_json)


def _train(settings: TrainingSettings, run: Path) -> None:
    """Trains, and tells how to use what was trained."""
    require("datasets", "Training on your own data", "train")
    from versatile_diffusion.processes import processes
    from versatile_diffusion.training.own_data.own_training import open_training
    from versatile_diffusion.training.report.publishing import publish, require_hub
    from versatile_diffusion.training.report.run_commands import model_options, use_command

    training = open_training(settings, run, say)
    if settings.push_to_hub is not None:
        require_hub(settings.push_to_hub)
    try:
        with warnings_as_notes():
            target = training.train()
    except KeyboardInterrupt:
        say("Stopped: the same command goes on from the last checkpoint.")
        raise
    if not processes().is_main_process:
        return
    if len(left_out := training.left_out):
        note(f"{left_out.told()}. {run / 'skipped.jsonl'} says why.")
    say(f"Trained: {target}. How it went: {run / 'index.html'}")
    model = model_options(settings, str(training.start), target)
    results.print(shlex.join(use_command(training.learnt, model)), markup=False)
    if settings.push_to_hub is not None:
        say(f"Uploaded: {publish(target, settings.push_to_hub)}")


def _stage(world: World, given: str) -> str:
    """The stage that the user means, by its name of today."""
    name = given.replace("-", "_")
    chosen = world.former_names.get(name, name)
    if chosen not in world.stages:
        names = ", ".join(stage.replace("_", "-") for stage in world.stages)
        raise typer.BadParameter(f"{given!r} is not one of {names}.", param_hint="--stage")
    if chosen != name:
        note(f"{given} is called {chosen.replace('_', '-')} now.")
    return chosen


def _move_aside(run: Path) -> None:
    if not run.exists():
        return
    names = (run.with_name(f"{run.name}-{i}") for i in range(1, 10_000))
    kept = run.rename(next(name for name in names if not name.exists()))
    say(f"The earlier run is now {kept}.")


models = group(cls=world_commands(train_command, train_on_data_command), help=HELP_OF_ALL)
"""Commands of the worlds by name, and of data."""
