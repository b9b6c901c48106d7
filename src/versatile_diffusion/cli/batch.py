"""`vd batch`: everything on a list, on as many processes as there are."""
# pyright: strict

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from versatile_diffusion.cli.batch_job import BatchOptions, How, ListJob, contexts_of, opened
from versatile_diffusion.cli.console import messages, say
from versatile_diffusion.cli.decoding import read_decoding
from versatile_diffusion.cli.files import require_writable_folder
from versatile_diffusion.cli.flags import OfEveryModality, Taken
from versatile_diffusion.cli.options import MOST_OUTPUTS
from versatile_diffusion.files import require_same_settings
from versatile_diffusion.modalities.spec import DecodingOptions
from versatile_diffusion.sampling.options import Sampling

if TYPE_CHECKING:
    from versatile_diffusion.applications.prompt_lists import WantedOutput
    from versatile_diffusion.processes import ProcessShare

SETTINGS = "settings.json"


def batch(
    prompts: Annotated[
        Path, typer.Argument(help="A .txt or .jsonl file.", exists=True, dir_okay=False, show_default=False)
    ],
    options: BatchOptions,
    sampling: Annotated[Sampling, Taken(without=("strength",))],
    decoding: Annotated[DecodingOptions, OfEveryModality()],
    output: Annotated[
        Path, typer.Option("--output", "-o", file_okay=False, help="A folder for the outputs.", show_default=False)
    ],
    num: Annotated[int, typer.Option("--num", "-n", min=1, max=MOST_OUTPUTS, help="Outputs of each line.")] = 1,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the first output of each line without its own; the next has the next.")
    ] = 0,
    batch_size: Annotated[int, typer.Option(min=1, max=MOST_OUTPUTS, help="Outputs made at once.")] = 8,
    ray: Annotated[
        int | None,
        typer.Option(
            "--ray",
            min=1,
            metavar="COPIES",
            help="Copies of the model, at most, on the Ray cluster that RAY_ADDRESS names, or on this machine.",
        ),
    ] = None,
) -> None:
    """Make an output of every line of a list.

    A .txt file has a text a line; a .jsonl file an object a line, {"text": …, "image": …, "seed": …}, with a text, an
    image, data of another modality by its name, or several of these. A rerun makes only what is missing. Several
    processes share the work, or the nodes of a Ray cluster.

    \b
    vd batch prompts.txt --output pictures --seed 7
    vd batch prompts.jsonl -o captions --to text
    accelerate launch --num_processes 2 -m versatile_diffusion.cli batch prompts.txt --output pictures
    RAY_ADDRESS=head:6379 vd batch prompts.txt --output pictures --ray 16
    """
    from versatile_diffusion.applications.prompt_lists import batches, read_prompts
    from versatile_diffusion.processes import ProcessShare, processes

    state = processes()
    with state.main_process_first():  # what is wrong is said once
        read = read_decoding(options.to, decoding)
        require_writable_folder(output)
        listed = read_prompts(prompts)
        planned = batches(listed, num, seed, batch_size)
        how = How(options, sampling, decoding, read)
        begun = any(output.glob("line-*"))
        require_same_settings(output / SETTINGS, how.settings(prompts), begun)
    job = ListJob(output, how, digits=max(4, len(str(listed[-1].line))))
    missing = [each for each in planned if job.missing(each)]
    state.wait_for_everyone()  # nobody writes before all have seen what is missing
    share = ProcessShare.of(state)
    own = missing[share.process :: share.processes]
    made = _make(job, own, share, ray) if own else 0
    if share.processes == 1:
        say(f"{made} of {num * len(listed)} outputs made, the others were there: {output}.")
    else:
        say(f"{made} outputs made by process {share.process + 1} of {share.processes}: {output}.")
    state.destroy_process_group()  # pyright: ignore[reportUnknownMemberType] - untyped in accelerate


def _make(job: ListJob, batches: Sequence[Sequence[WantedOutput]], share: ProcessShare, ray: int | None) -> int:
    """Makes batches, here or on Ray, and returns how many outputs that were; shows how far it is."""
    options, total = job.how.options, sum(map(len, batches))
    disable = share.process != 0 or not messages.is_terminal
    with Progress(console=messages, transient=True, disable=disable) as progress:
        task = progress.add_task(f"Making {total} × {options.to}", total=total)

        def on_made(count: int) -> None:
            progress.advance(task, count)

        if ray is not None:
            from versatile_diffusion.cli.batch_on_ray import make_on_ray

            return make_on_ray(job, batches, ray, on_made)
        if share.processes > 1 and options.device in ("auto", "cuda"):  # each on a device of its own
            options = replace(options, device=share.device)
        return job.run(batches, opened(options, contexts_of(batches)), on_made)
