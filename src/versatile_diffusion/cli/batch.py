"""`vd batch`: everything on a list, on as many processes as there are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from versatile_diffusion import __version__
from versatile_diffusion.cli.console import messages, say, warnings_as_notes
from versatile_diffusion.cli.files import require_same_settings, require_writable_folder
from versatile_diffusion.cli.making import open_pipeline, recipes_of, scale_of
from versatile_diffusion.cli.mix import To
from versatile_diffusion.cli.options import GuidanceScale, Loras, ModelOptions, Scheduler, Steps
from versatile_diffusion.files import write_whole

if TYPE_CHECKING:
    from accelerate import PartialState

    from versatile_diffusion.applications.prompt_lists import Wanted
    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.provenance.files import Kept

SETTINGS = "settings.json"


@dataclass(frozen=True)
class Recipe(ModelOptions):
    """How outputs are made. All outputs of a folder are made alike."""

    to: Annotated[To, typer.Option("--to", help="What to make.")] = To.IMAGE
    steps: Steps = 50
    guidance_scale: GuidanceScale = None
    image_weight: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the image, where a line has a text as well.")
    ] = 0.5
    scheduler: Scheduler = None
    height: Annotated[int | None, typer.Option(min=1, help="Of pictures; the model's own if left out.")] = None
    width: Annotated[int | None, typer.Option(min=1, help="Of pictures; the model's own if left out.")] = None
    lora: Loras = None


def batch(
    prompts: Annotated[
        Path, typer.Argument(help="A .txt or .jsonl file.", exists=True, dir_okay=False, show_default=False)
    ],
    recipe: Recipe,
    output: Annotated[
        Path, typer.Option("--output", "-o", file_okay=False, help="A folder for the outputs.", show_default=False)
    ],
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="Outputs of each line.")] = 1,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the first output of each line without its own; the next has the next.")
    ] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Outputs made at once.")] = 8,
) -> None:
    """Make an output of every line of a list.

    A .txt file has a text a line; a .jsonl file an object a line, {"text": …, "image": …, "seed": …}, with a text, an
    image or both. A rerun makes only what is missing. Several processes share the work.

    \b
    vd batch prompts.txt --output pictures --seed 7
    vd batch prompts.jsonl -o captions --to text
    accelerate launch --num_processes 2 -m versatile_diffusion.cli batch prompts.txt --output pictures
    """
    from versatile_diffusion.applications.prompt_lists import batches, read_prompts
    from versatile_diffusion.processes import processes

    state = processes()
    with state.main_process_first():  # what is wrong is said once
        require_writable_folder(output)
        listed = read_prompts(prompts)
        begun = any(output.glob("line-*"))
        require_same_settings(output / SETTINGS, _settings(prompts, recipe), begun)
    job = _Job(output, recipe, digits=max(4, len(str(listed[-1].line))))
    planned = batches(listed, num, seed, batch_size)
    missing = [each for each in planned if job.missing(each)]
    state.wait_for_everyone()  # nobody writes before all have seen what is missing
    own = missing[state.process_index :: state.num_processes]
    made = job.run(own, _opened(recipe, own, state), state) if own else 0
    if state.num_processes == 1:
        say(f"{made} of {num * len(listed)} outputs made, the others were there: {output}.")
    else:
        say(f"{made} outputs made by process {state.process_index + 1} of {state.num_processes}: {output}.")
    state.destroy_process_group()


@dataclass(frozen=True)
class _Job:
    """A folder of outputs.

    Attributes:
        output: the folder.
        recipe: how outputs are made.
        digits: of line numbers in file names.
    """

    output: Path
    recipe: Recipe
    digits: int

    def file(self, wanted: Wanted) -> Path:
        """Where an output goes."""
        line = f"{wanted.prompt.line:0{self.digits}}"
        return self.output / f"line-{line}-seed-{wanted.seed}{_suffix(self.recipe)}"

    def missing(self, batch: Sequence[Wanted]) -> list[Wanted]:
        """Outputs that are not there yet."""
        return [wanted for wanted in batch if not self.file(wanted).exists()]

    def run(self, batches: Sequence[Sequence[Wanted]], pipe: VersatileDiffusionPipeline, state: PartialState) -> int:
        """Makes what is missing of some batches, and returns how many outputs that were.

        A batch is made whole even if some of it is there, since a smaller one would round otherwise.
        """
        from versatile_diffusion.applications.prompt_lists import make

        recipe, total, made = self.recipe, sum(map(len, batches)), 0
        options = {
            "num_inference_steps": recipe.steps,
            "guidance_scale": scale_of(pipe, recipe.to, recipe.guidance_scale),
            "image_weight": recipe.image_weight,
            "scheduler": recipe.scheduler,
            **{side: size for side in ("height", "width") if (size := getattr(recipe, side)) is not None},
        }
        shown = messages.is_terminal and state.is_main_process
        with warnings_as_notes(), Progress(console=messages, transient=True, disable=not shown) as progress:
            task = progress.add_task(f"Making {total} × {recipe.to}", total=total)
            for batch in batches:
                missing = self.missing(batch)
                outputs = make(pipe, recipe.to, batch, **options)
                kept = recipes_of(pipe, outputs.origins, recipe, recipe.lora)
                for wanted, item, one in zip(batch, outputs.items, kept, strict=True):
                    if wanted in missing:
                        self._write(wanted, item, options, one)
                made += len(missing)
                progress.advance(task, len(batch))
        return made

    def _write(self, wanted: Wanted, item: Any, options: Mapping[str, Any], kept: Kept) -> None:
        from versatile_diffusion.provenance.files import write_picture

        if self.recipe.to == To.TEXT:
            write_whole(self.file(wanted), f"{item}\n".encode())
            return
        prompt, recipe = wanted.prompt, self.recipe
        told = {
            "command": "batch",
            "line": prompt.line,
            "prompt": prompt.text,
            "image": None if prompt.image is None else prompt.image.name,
            "image_weight": recipe.image_weight if len(prompt.contexts) > 1 else None,
            "seed": wanted.seed,
            "steps": recipe.steps,
            "guidance_scale": options["guidance_scale"],
            "scheduler": recipe.scheduler,
            "lora": " | ".join(recipe.lora or []) or None,
            "model": recipe.model,
            "version": __version__,
        }
        words = {key: value for key, value in told.items() if value is not None}
        write_picture(self.file(wanted), item, words, kept)


def _suffix(recipe: Recipe) -> str:
    return ".png" if recipe.to == To.IMAGE else ".txt"


def _settings(prompts: Path, recipe: Recipe) -> dict[str, Any]:
    """What must not change in a folder. Where it computes may: one machine helps out another."""
    digest = hashlib.sha256(prompts.read_bytes()).hexdigest()
    return {"prompts": digest} | {k: v for k, v in asdict(recipe).items() if k not in ("device", "dtype")}


def _opened(recipe: Recipe, batches: Sequence[Sequence[Wanted]], state: PartialState) -> VersatileDiffusionPipeline:
    """The model with what the batches need; each process on a device of its own."""
    if state.num_processes > 1 and recipe.device in ("auto", "cuda"):
        recipe = replace(recipe, device=str(state.device))
    contexts = sorted({context for batch in batches for context in batch[0].prompt.contexts})
    pipe = open_pipeline(recipe, [f"{context}-to-{recipe.to}" for context in contexts], loras=recipe.lora)
    pipe.set_progress_bar_config(disable=True)
    return pipe
