# pyright: strict
"""`vd vote`: which of two models or settings people like better."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from versatile_diffusion.cli.console import messages, results, say, warnings_as_notes
from versatile_diffusion.cli.files import require_writable, require_writable_folder
from versatile_diffusion.cli.groups import group
from versatile_diffusion.cli.opening import open_pipeline, records_of, show_progress
from versatile_diffusion.cli.options import MOST_OUTPUTS, Dtype, ModelOptions, Overwrite, spread
from versatile_diffusion.cli.writing import UnwrittenOutput, write_outputs
from versatile_diffusion.extras import extra
from versatile_diffusion.files import require_same_settings, write_whole
from versatile_diffusion.modalities.image_spec import IMAGE

if TYPE_CHECKING:
    from versatile_diffusion.applications.prompt_lists import Prompt, WantedOutput
    from versatile_diffusion.voting.report import VoteReport
    from versatile_diffusion.voting.settings import StudySide
    from versatile_diffusion.voting.study import ImagePair

SETTINGS = "settings.json"
Sides = Annotated[str, typer.Argument(metavar="[NAME=]MODEL[:KEY=VALUE,…]", show_default=False)]
Study = Annotated[Path, typer.Argument(metavar="STUDY", help="A folder of vd vote make.", show_default=False)]


@dataclass(frozen=True)
class Where:
    """Where it computes."""

    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.", rich_help_panel="Model")] = "auto"
    dtype: Annotated[
        Dtype, typer.Option(help="auto is fp16 on accelerators, else bf16 or fp32.", rich_help_panel="Model")
    ] = Dtype.AUTO


def make(
    a: Sides,
    b: Sides,
    where: Where,
    prompts: Annotated[Path, typer.Option(help="A .txt or .jsonl file, as for vd batch.", exists=True, dir_okay=False)],
    num: Annotated[int, typer.Option("--num", "-n", min=1, max=MOST_OUTPUTS, help="Pairs of each prompt.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the first pair of each prompt; the next has the next.")] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", file_okay=False, help="A folder.")] = Path("study"),
    batch_size: Annotated[int, typer.Option(min=1, max=MOST_OUTPUTS, help="Pictures made at once.")] = 8,
) -> None:
    """Make pairs of pictures with two models or settings, from the same prompts and seeds.

    Keys are preset, steps, guidance, interval (LOW-HIGH) and scheduler. A rerun makes only what is missing.

    \b
    vd vote make postcards postcards:preset=fast --prompts prompts.txt
    vd vote make old=postcards "new=my-folder:steps=25,guidance=5" --prompts prompts.txt -n 2 -o study
    """
    from versatile_diffusion.applications.prompt_lists import batches, read_prompts
    from versatile_diffusion.voting.settings import StudySide, require_unlike

    with extra("app", "voting"):
        from versatile_diffusion.voting.study import Study

    sides = StudySide.parse(a), StudySide.parse(b)
    require_unlike(*sides)
    listed = read_prompts(prompts)
    planned = batches(listed, num, seed, batch_size)
    require_writable_folder(output)
    settings = {"a": a, "b": b, "prompts": [_told(prompt) for prompt in listed], "seed": seed, "batch_size": batch_size}
    require_same_settings(output / SETTINGS, json.loads(json.dumps(settings)), (output / "pictures").exists())
    study = Study(output, must_exist=False)
    try:
        study.plan((sides[0].name, sides[1].name), [_pair(wanted) for batch in planned for wanted in batch])
        _keep_given(output, listed)
        made = sum(_make(output, key, side, where, planned) for key, side in zip("ab", sides, strict=True))
        say(f"{made} pictures made, {len(study.pairs)} pairs are ready. Vote on them: vd vote open {output}")
    finally:
        study.close()


def open_(
    study: Study,
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen at; 0 is any that is free.")] = 7870,
) -> None:
    """Show the pairs in a browser, blind and in random order, and take votes.

    Each browser is a voter; several people at one browser call themselves by the address, as in /?voter=anna.

    \b
    vd vote open study
    vd vote open study --port 9001
    """
    with extra("app", "voting"):
        from versatile_diffusion.voting.page import serve
        from versatile_diffusion.voting.study import Study

    opened = Study(study)
    if not opened.pairs:
        raise ValueError(f"{study} has no pair that is ready: run vd vote make once more.")
    try:
        what = f"Vote on {len(opened.pairs)} pairs"
        serve(opened, port, lambda port: say(f"{what} at http://127.0.0.1:{port} (stop with Ctrl-C)."))
    finally:
        opened.close()


def report(
    studies: Annotated[list[Path], typer.Argument(metavar="STUDY", help="Folders.", show_default=False)],
    plot: Annotated[Path | None, typer.Option(dir_okay=False, help="A .png file for a chart of the votes.")] = None,
    overwrite: Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Say what the votes are, with 95 % confidence intervals.

    \b
    vd vote report study
    vd vote report study other-study --json --plot votes.png
    """
    with extra("app", "voting"):
        from versatile_diffusion.voting import report as reports
        from versatile_diffusion.voting.study import Study

    require_writable([plot] if plot else [], overwrite)
    found: list[VoteReport] = []
    for folder in studies:
        study = Study(folder)
        found.append(reports.VoteReport.of(study))
        study.close()
    if plot is not None:
        write_whole(plot, reports.plot(found))
    if as_json:
        print(json.dumps([one.as_dict() for one in found], indent=2, ensure_ascii=False))
        return
    for one in found:
        results.print(_table(one))


# ---- details ----


def _told(prompt: Prompt) -> list[Any]:
    return [prompt.line, prompt.text, None if prompt.image is None else prompt.image.name, prompt.seed]


def _file(key: str, wanted: WantedOutput) -> str:
    return f"pictures/line-{wanted.prompt.line:04}-seed-{wanted.seed}-{key}.png"


def _given(prompt: Prompt) -> str | None:
    return None if prompt.image is None else f"given/line-{prompt.line:04}.png"


def _pair(wanted: WantedOutput) -> ImagePair:
    from versatile_diffusion.voting.study import ImagePair

    prompt = wanted.prompt
    return ImagePair(prompt.line, wanted.seed, prompt.text, _given(prompt), _file("a", wanted), _file("b", wanted))


def _keep_given(output: Path, prompts: Iterable[Prompt]) -> None:
    """Keeps the pictures among the prompts, to show them beside what was made of them."""
    from versatile_diffusion.modalities.images import read_images, to_pil

    for prompt in prompts:
        name = _given(prompt)
        if name is not None and not (output / name).exists():
            write_whole(output / name, IMAGE.codec.encode(to_pil(read_images(prompt.image)[0])))


def _make(output: Path, key: str, side: StudySide, where: Where, batches: Sequence[Sequence[WantedOutput]]) -> int:
    """Makes what is missing of one side, and returns how many pictures that were."""
    from versatile_diffusion.applications.prompt_lists import make

    missing = [batch for batch in batches if not all((output / _file(key, wanted)).exists() for wanted in batch)]
    if not missing:
        return 0
    options = ModelOptions(model=side.model, device=where.device, dtype=where.dtype)
    contexts = sorted({context for batch in missing for context in batch[0].prompt.contexts})
    pipe = open_pipeline(options, [f"{context}-to-{IMAGE.name}" for context in contexts])
    show_progress(pipe, None)
    made = 0
    with warnings_as_notes(), Progress(console=messages, transient=True, disable=not messages.is_terminal) as progress:
        task = progress.add_task(f"Making pictures with {side.name}", total=sum(map(len, missing)))
        for batch in missing:  # whole, since a smaller one would round otherwise
            outputs = make(pipe, IMAGE.name, batch, **side.options)
            records = records_of(pipe, outputs.origins, options)
            unwritten = [
                UnwrittenOutput(output / _file(key, wanted), image, _words(side, wanted), record)
                for wanted, image, record in zip(batch, outputs.items, records, strict=True)
                if not (output / _file(key, wanted)).exists()
            ]
            write_outputs(IMAGE.name, unwritten)
            made += len(unwritten)
            progress.advance(task, len(batch))
    return made


def _words(side: StudySide, wanted: WantedOutput) -> dict[str, object]:
    prompt = wanted.prompt.text or ""
    return {"command": "vote make", "side": side.name, "prompt": prompt, "seed": wanted.seed}


def _table(report: VoteReport) -> Table:
    voters = f"{report.votes} votes of {report.voters} voters on {report.pairs} pairs"
    agreement = f", who agree on {report.agreement:.0%}" if report.agreement is not None else ""
    table = Table("better", "votes", "share", "95 % interval", caption=f"{voters}{agreement}.", caption_justify="left")
    for choice, share in report.shares.items():
        table.add_row(
            report.labels[choice], str(share.votes), f"{share.share:.1%}", f"{share.low:.1%} to {share.high:.1%}"
        )
    return table


votes = group(help=__doc__)
for name, command in (("make", make), ("open", open_), ("report", report)):
    votes.command(name)(spread(command))
