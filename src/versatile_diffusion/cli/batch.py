"""`vd batch`: everything on a list, on as many processes as there are."""
# pyright: strict

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from versatile_diffusion import __version__
from versatile_diffusion.cli.console import messages, say, warnings_as_notes
from versatile_diffusion.cli.decoding import decoding_words, read_decoding
from versatile_diffusion.cli.files import require_writable_folder
from versatile_diffusion.cli.flags import OfEveryModality, Taken
from versatile_diffusion.cli.opening import open_pipeline, records_of, resolved_for, show_progress
from versatile_diffusion.cli.options import MOST_OUTPUTS, Loras, ModelOptions, set_options
from versatile_diffusion.cli.writing import UnwrittenOutput, write_outputs
from versatile_diffusion.files import require_same_settings
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.spec import DecodingOptions
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.sampling.options import Sampling

if TYPE_CHECKING:
    from versatile_diffusion.applications.prompt_lists import WantedOutput
    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.processes import ProcessShare

SETTINGS = "settings.json"


@dataclass(frozen=True)
class BatchOptions(ModelOptions):
    """What is made of each line."""

    to: Annotated[
        str, typer.Option("--to", metavar="NAME", help="What to make: image, text or what else the model makes.")
    ] = IMAGE.name
    image_weight: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the image, where a line has a text as well.")
    ] = 0.5
    lora: Loras = None


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
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="Outputs of each line.")] = 1,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the first output of each line without its own; the next has the next.")
    ] = 0,
    batch_size: Annotated[int, typer.Option(min=1, max=MOST_OUTPUTS, help="Outputs made at once.")] = 8,
) -> None:
    """Make an output of every line of a list.

    A .txt file has a text a line; a .jsonl file an object a line, {"text": …, "image": …, "seed": …}, with a text, an
    image, data of another modality by its name, or several of these. A rerun makes only what is missing. Several
    processes share the work.

    \b
    vd batch prompts.txt --output pictures --seed 7
    vd batch prompts.jsonl -o captions --to text
    accelerate launch --num_processes 2 -m versatile_diffusion.cli batch prompts.txt --output pictures
    """
    from versatile_diffusion.applications.prompt_lists import batches, read_prompts
    from versatile_diffusion.processes import ProcessShare, processes

    state = processes()
    with state.main_process_first():  # what is wrong is said once
        read = read_decoding(options.to, decoding)
        require_writable_folder(output)
        listed = read_prompts(prompts)
        planned = batches(listed, num, seed, batch_size)
        how = _How(options, sampling, decoding, read)
        begun = any(output.glob("line-*"))
        require_same_settings(output / SETTINGS, how.settings(prompts), begun)
    job = _ListJob(output, how, digits=max(4, len(str(listed[-1].line))))
    missing = [each for each in planned if job.missing(each)]
    state.wait_for_everyone()  # nobody writes before all have seen what is missing
    share = ProcessShare.of(state)
    own = missing[share.process :: share.processes]
    made = job.run(own, _opened(options, own, share), shown=share.process == 0) if own else 0
    if share.processes == 1:
        say(f"{made} of {num * len(listed)} outputs made, the others were there: {output}.")
    else:
        say(f"{made} outputs made by process {share.process + 1} of {share.processes}: {output}.")
    state.destroy_process_group()  # pyright: ignore[reportUnknownMemberType] - untyped in accelerate


@dataclass(frozen=True)
class _How:
    """How outputs are made. All outputs of a folder are made alike.

    Attributes:
        options: what of, and with which model.
        sampling: what the user asked for.
        decoding: as it was written.
        read: options of decoding, with their data.
    """

    options: BatchOptions
    sampling: Sampling
    decoding: DecodingOptions
    read: Mapping[str, object]

    def settings(self, prompts: Path) -> dict[str, object]:
        """Returns what must not change in a folder. Where it computes may: one machine helps out another."""
        from versatile_diffusion.provenance.words import sampling_words

        digest = hashlib.sha256(prompts.read_bytes()).hexdigest()
        own = {key: value for key, value in asdict(self.options).items() if key not in ("device", "dtype", "backend")}
        return {"prompts": digest, **own, **sampling_words(self.sampling), **decoding_words(self.decoding)}


@dataclass(frozen=True)
class _ListJob:
    """A folder of outputs.

    Attributes:
        output: the folder.
        how: outputs are made.
        digits: of line numbers in file names.
    """

    output: Path
    how: _How
    digits: int

    def file(self, wanted: WantedOutput) -> Path:
        """Returns where an output goes."""
        line = f"{wanted.prompt.line:0{self.digits}}"
        return self.output / f"line-{line}-seed-{wanted.seed}{modality_spec(self.how.options.to).codec.suffix}"

    def missing(self, batch: Sequence[WantedOutput]) -> list[WantedOutput]:
        """Returns outputs that are not there yet."""
        return [wanted for wanted in batch if not self.file(wanted).exists()]

    def run(self, batches: Sequence[Sequence[WantedOutput]], pipe: VersatileDiffusionPipeline, shown: bool) -> int:
        """Makes what is missing of some batches, and returns how many outputs that were.

        A batch is made whole even if some of it is there, since a smaller one would round otherwise.
        """
        from versatile_diffusion.applications.prompt_lists import make

        options, total, made = self.how.options, sum(map(len, batches)), 0
        sampling = resolved_for(pipe, options.to, self.how.sampling)
        given = {**set_options(self.how.sampling), **self.how.read}
        shown = shown and messages.is_terminal
        with warnings_as_notes(), Progress(console=messages, transient=True, disable=not shown) as progress:
            task = progress.add_task(f"Making {total} × {options.to}", total=total)
            for batch in batches:
                missing = self.missing(batch)
                outputs = make(pipe, options.to, batch, options.image_weight, **given)
                records = records_of(pipe, outputs.origins, options, options.lora)
                made_of = zip(batch, outputs.items, records, strict=True)
                unwritten = [
                    UnwrittenOutput(self.file(wanted), item, self._words(wanted, sampling), record)
                    for wanted, item, record in made_of
                    if wanted in missing
                ]
                write_outputs(options.to, unwritten)
                made += len(missing)
                progress.advance(task, len(batch))
        return made

    def _words(self, wanted: WantedOutput, sampling: Sampling) -> dict[str, object]:
        from versatile_diffusion.provenance.words import sampling_words

        prompt, options = wanted.prompt, self.how.options
        files = {name: data.name for name, data in prompt.data.items() if isinstance(data, Path)}
        told = {
            "command": "batch",
            "line": prompt.line,
            "prompt": prompt.text,
            **files,
            "image_weight": options.image_weight if {TEXT.name, IMAGE.name} == prompt.data.keys() else None,
            "seed": wanted.seed,
            **sampling_words(sampling),
            **decoding_words(self.how.decoding),
            "lora": " | ".join(options.lora or []) or None,
            "model": options.model,
            "version": __version__,
        }
        return {key: value for key, value in told.items() if value is not None}


def _opened(
    options: BatchOptions, batches: Sequence[Sequence[WantedOutput]], share: ProcessShare
) -> VersatileDiffusionPipeline:
    """The model with what the batches need; each process on a device of its own."""
    if share.processes > 1 and options.device in ("auto", "cuda"):
        options = replace(options, device=share.device)
    contexts = sorted({context for batch in batches for context in batch[0].prompt.contexts})
    pipe = open_pipeline(options, [f"{context}-to-{options.to}" for context in contexts], loras=options.lora)
    show_progress(pipe, None)
    return pipe
