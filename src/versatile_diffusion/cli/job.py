"""What commands that make outputs do, each in its own way: plan, open the model, make, write."""
# pyright: strict

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from versatile_diffusion import __version__
from versatile_diffusion._moved import former_names
from versatile_diffusion.cli.console import results, say, warnings_as_notes
from versatile_diffusion.cli.files import plan_files, require_writable
from versatile_diffusion.cli.opening import open_pipeline, records_of, resolved_for
from versatile_diffusion.cli.options import MOST_OUTPUTS, JobOptions, set_options
from versatile_diffusion.cli.writing import UnwrittenOutput, write_outputs
from versatile_diffusion.files import write_whole
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.spec import Codec
from versatile_diffusion.sampling.options import Sampling

if TYPE_CHECKING:
    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.pipeline.outputs import Outputs
    from versatile_diffusion.provenance.stored_record import StoredRecord

Make = Callable[["VersatileDiffusionPipeline", dict[str, Any]], "Outputs"]
"""(pipeline, options of `generate`) -> what it made."""


@dataclass(frozen=True)
class GenerationJob:
    """Outputs to make and to write.

    Attributes:
        command: its name.
        to: the modality to make.
        contexts: modalities to condition on.
        subjects: what each group of outputs is made from, in words.
        options: how many, and where they go.
        sampling: what the user asked for.
        words: what else to remember with an output.
        own_words: the same, for each of the subjects.
        flows: what the model is opened for; by default from each context to what is made.
    """

    command: str
    to: str
    contexts: Sequence[str]
    subjects: Sequence[str]
    options: JobOptions
    sampling: Sampling
    words: Mapping[str, object] = field(default_factory=dict[str, object])
    own_words: Sequence[Mapping[str, object]] = ()
    flows: Sequence[str] | None = None

    def run(self, make: Make) -> None:
        """Makes and writes. Nothing is computed unless all can be written."""
        options = self.options
        first = random.randrange(2**31) if options.seed is None else options.seed
        seeds = options.seeds(first)
        files = self._plan(seeds)

        flows = self.flows or [f"{context}-to-{self.to}" for context in dict.fromkeys(self.contexts)]
        pipe = open_pipeline(options, flows, self.command, options.lora)
        started = time.perf_counter()
        each = [seed for _ in self.subjects for seed in seeds]
        with warnings_as_notes():
            outputs = make(pipe, {"num_outputs": options.num, "seeds": each, **set_options(self.sampling)})
        say(f"{len(outputs.items)} × {self.to} in {time.perf_counter() - started:.1f} s, seed {first}.")
        sampling = (
            outputs.origins[0].request.sampling if outputs.origins else resolved_for(pipe, self.to, self.sampling)
        )
        own = self.own_words or [dict[str, object]()] * len(self.subjects)
        words = [
            {**self._words(subject, seed, sampling), **more}
            for subject, more in zip(self.subjects, own, strict=True)
            for seed in seeds
        ]
        records = records_of(pipe, outputs.origins, options, options.lora) or [None] * len(words)
        self._write(list(outputs.items), words, records, files)

    @property
    def _codec(self) -> Codec:
        return modality_spec(self.to).codec

    def _plan(self, seeds: Sequence[int]) -> list[Path]:
        """The files that will be written. Raises OSError, ValueError or ImportError if that cannot be done."""
        for name in (self.to, *self.contexts):
            modality_spec(name).codec.require_installed()
        total = len(self.subjects) * len(seeds)
        if total > MOST_OUTPUTS:
            raise ValueError(f"{total} outputs are asked for, and {MOST_OUTPUTS} can be made at once: ask for fewer.")
        output = self.options.output
        if self._codec.inline:
            files = [output] if output else []
        else:
            files = plan_files(output, self.subjects, seeds, self._codec)
        require_writable(files, self.options.overwrite)
        return files

    def _words(self, subject: str, seed: int, sampling: Sampling) -> dict[str, object]:
        from versatile_diffusion.provenance.words import sampling_words

        entries = {
            "command": self.command,
            "prompt": subject,
            "seed": seed,
            **sampling_words(sampling),
            **self.words,
            "lora": " | ".join(self.options.lora or []) or None,
            "model": self.options.model,
            "version": __version__,
        }
        return {
            key: ",".join(map(str, value)) if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - a range of numbers
            for key, value in entries.items()
            if value is not None
        }

    def _write(
        self,
        items: Sequence[object],
        words: Sequence[Mapping[str, object]],
        records: Sequence[StoredRecord | None],
        files: Sequence[Path],
    ) -> None:
        if self._codec.inline:
            self._write_words([str(item) for item in items], words, records, files)
            return
        outputs = [UnwrittenOutput(*one) for one in zip(files, items, words, records, strict=True)]
        if not self.options.as_json:
            write_outputs(self.to, outputs, lambda file: results.print(Text(str(file))))
            return
        written: set[Path] = set()
        try:
            write_outputs(self.to, outputs, written.add)
        finally:
            _print_json([self._told(output) for output in outputs if output.file in written])

    def _told(self, output: UnwrittenOutput) -> dict[str, object]:
        """What JSON says of an output that was written."""
        record = None if self._codec.keeps_record else output.record
        return {**output.words, "file": str(output.file)} | _request(record)

    def _write_words(
        self,
        texts: Sequence[str],
        words: Sequence[Mapping[str, object]],
        records: Sequence[StoredRecord | None],
        files: Sequence[Path],
    ) -> None:
        if self.options.as_json:
            told = zip(words, texts, records, strict=True)
            _print_json([{**one, self.to: text} | _request(record) for one, text, record in told])
        else:
            self._show(texts)
        for file in files:
            write_whole(file, b"".join(self._codec.encode(text) for text in texts))

    def _show(self, texts: Sequence[str]) -> None:
        for i, text in enumerate(texts):
            if len(self.subjects) > 1 and i % self.options.num == 0:
                results.print(Text(self.subjects[i // self.options.num] or '""', "bold"))
            results.print(Text(text))


def _request(record: StoredRecord | None) -> dict[str, object]:
    return {} if record is None else {"request": json.loads(record.json)}


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


__getattr__ = former_names(
    __name__,
    {
        "Job": "versatile_diffusion.cli.job:GenerationJob",
        "recipes_of": "versatile_diffusion.cli.opening:records_of",
    },
)
