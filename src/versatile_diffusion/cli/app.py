# pyright: strict
"""The commands, and what happens when one fails."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from versatile_diffusion import __version__, lean
from versatile_diffusion.cli import (
    batch,
    bench,
    convert,
    data,
    demo,
    distill,
    edit,
    embed,
    evaluate,
    evaluate_data,
    flows,
    generate,
    other_flows,
    reconstruct,
    replay,
    serve,
    studio,
    train,
    vote,
)
from versatile_diffusion.cli.console import error, show_whatever_is_said
from versatile_diffusion.cli.options import ManyValues, spread
from versatile_diffusion.cli.worlds import alone, world_commands
from versatile_diffusion.extras import silence_imports
from versatile_diffusion.validation import shortened


class Commands(TyperGroup):
    """Commands whose errors are shown as one message, with exit code 1."""

    def list_commands(self, ctx: Any) -> list[str]:  # typer keeps its kind of context to itself
        """The flows of other modalities stand behind those of the paper."""
        listed, others = super().list_commands(ctx), [str(flow) for flow in other_flows.other_flows()]
        place = listed.index("text-variation") + 1
        return [*listed[:place], *others, *listed[place:]]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        flow = None if cmd_name in self.commands else other_flows.find_other_flow(cmd_name)
        if flow is None:
            return super().get_command(ctx, cmd_name)
        return alone(cmd_name, *other_flows.flow_command(flow), panel="Make")

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except typer.BadParameter as problem:
            problem.message = shortened(problem.message)  # which quotes what was given
            raise
        except (ValueError, TypeError, OSError, RuntimeError, ImportError, FloatingPointError) as problem:
            if ctx.params.get("traceback"):
                raise
            error(str(problem) or type(problem).__name__)
            raise typer.Exit(1) from problem


def _group(**options: Any) -> typer.Typer:
    return typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )


app = _group(cls=Commands)
for command in (
    demo.demo,
    flows.text_to_image,
    flows.image_to_text,
    flows.image_variation,
    flows.text_variation,
    generate.generate,
    generate.blend,
    edit.edit,
    batch.batch,
    replay.replay,
):
    app.command(rich_help_panel="Make")(spread(command))
for command in (reconstruct.reconstruct, embed.embed):
    app.command(rich_help_panel="Brain decoding")(spread(command))
app.add_typer(
    _group(cls=world_commands(train.train_command, train.train_on_data_command), help=train.HELP_OF_ALL),
    name="train",
    rich_help_panel="Models",
)
app.command(rich_help_panel="Models", cls=ManyValues)(spread(distill.distill))
evaluations = _group(
    cls=world_commands(evaluate.evaluate_command, has=lambda world: bool(world.evaluations)), help=evaluate.HELP
)
for command in (evaluate_data.images, evaluate_data.texts):
    evaluations.command(cls=ManyValues)(spread(command))
app.add_typer(evaluations, name="evaluate", rich_help_panel="Models")
data_sets = _group(
    cls=world_commands(data.write_command, has=lambda world: world.sources is not None), help=data.__doc__
)
data_sets.command("show")(spread(data.show))
app.add_typer(data_sets, name="data", rich_help_panel="Models")
votes = _group(help=vote.__doc__)
for name, command in (("make", vote.make), ("open", vote.open_), ("report", vote.report)):
    votes.command(name)(spread(command))
app.add_typer(votes, name="vote", rich_help_panel="Models")
for command in (studio.app, serve.serve, convert.convert, bench.bench):
    app.command(rich_help_panel="Models")(spread(command))


def _show_version(asked: bool) -> bool:
    if asked:
        print(f"versatile-diffusion {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error comes from.")] = False,
) -> None:
    """Texts, pictures and variations of both from one diffusion model."""
    silence_imports()
    show_whatever_is_said()


def main() -> None:
    """Runs `vd`."""
    lean.install(own_process=True)
    stdout: object = sys.stdout
    if isinstance(stdout, TextIOWrapper):  # names of files may hold bytes that are no text
        stdout.reconfigure(errors="backslashreplace")
    app()
