"""What `vd batch` makes of a list, wherever it is made: the files of a folder, batch by batch."""
# pyright: strict

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from versatile_diffusion import __version__
from versatile_diffusion.cli.console import warnings_as_notes
from versatile_diffusion.cli.decoding import decoding_words
from versatile_diffusion.cli.opening import open_pipeline, records_of, resolved_for, show_progress
from versatile_diffusion.cli.options import Loras, ModelOptions, set_options
from versatile_diffusion.cli.writing import UnwrittenOutput, write_outputs
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.spec import DecodingOptions
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.sampling.options import Sampling

if TYPE_CHECKING:
    from versatile_diffusion.applications.prompt_lists import WantedOutput
    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline


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


@dataclass(frozen=True)
class How:
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
class ListJob:
    """A folder of outputs.

    Attributes:
        output: the folder.
        how: outputs are made.
        digits: of line numbers in file names.
    """

    output: Path
    how: How
    digits: int

    def file(self, wanted: WantedOutput) -> Path:
        """Returns where an output goes."""
        line = f"{wanted.prompt.line:0{self.digits}}"
        return self.output / f"line-{line}-seed-{wanted.seed}{modality_spec(self.how.options.to).codec.suffix}"

    def missing(self, batch: Sequence[WantedOutput]) -> list[WantedOutput]:
        """Returns outputs that are not there yet."""
        return [wanted for wanted in batch if not self.file(wanted).exists()]

    def run(
        self,
        batches: Sequence[Sequence[WantedOutput]],
        pipe: VersatileDiffusionPipeline,
        on_made: Callable[[int], object] = lambda count: None,
    ) -> int:
        """Makes what is missing of some batches, and returns how many outputs that were.

        A batch is made whole even if some of it is there, since a smaller one would round otherwise.

        Args:
            batches: of `prompt_lists.batches`.
            pipe: the model.
            on_made: called after each batch with the number of its outputs.
        """
        from versatile_diffusion.applications.prompt_lists import make

        options, made = self.how.options, 0
        sampling = resolved_for(pipe, options.to, self.how.sampling)
        given = {**set_options(self.how.sampling), **self.how.read}
        with warnings_as_notes():
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
                on_made(len(batch))
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


def opened(options: BatchOptions, contexts: Sequence[str]) -> VersatileDiffusionPipeline:
    """Returns the model with what outputs of these contexts need."""
    pipe = open_pipeline(options, [f"{context}-to-{options.to}" for context in contexts], loras=options.lora)
    show_progress(pipe, None)
    return pipe


def contexts_of(batches: Sequence[Sequence[WantedOutput]]) -> list[str]:
    """Returns the modalities that batches condition on."""
    return sorted({context for batch in batches for context in batch[0].prompt.contexts})
