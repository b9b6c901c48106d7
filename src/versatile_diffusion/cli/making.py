"""What commands that make pictures or texts do, each in its own way: plan, open the model, make, write."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.text import Text

from versatile_diffusion import __version__
from versatile_diffusion.cli.console import messages, results, say, warnings_as_notes
from versatile_diffusion.cli.files import plan_pictures, require_writable
from versatile_diffusion.cli.options import Making, ModelOptions, weighted
from versatile_diffusion.extras import silence_opening
from versatile_diffusion.files import write_whole

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.modalities import Modality
    from versatile_diffusion.pipeline.outputs import Origin, Outputs
    from versatile_diffusion.provenance.files import Kept
    from versatile_diffusion.sampling.presets import SamplingPreset

Make = Callable[["VersatileDiffusionPipeline", dict[str, Any]], "Outputs"]
"""(pipeline, options of `generate`) -> what it made."""


@dataclass(frozen=True)
class Job:
    """Outputs to make and to write.

    Attributes:
        command: its name.
        to: "image" or "text".
        contexts: modalities to condition on.
        subjects: what each group of outputs is made from, in words.
        settings: how many, and how.
        recipe: what else to remember with a picture.
        recipes: the same, for each of the subjects.
        flows: what the model is opened for; by default from each context to what is made.
    """

    command: str
    to: str
    contexts: Sequence[str]
    subjects: Sequence[str]
    settings: Making
    recipe: Mapping[str, Any] = field(default_factory=dict)
    recipes: Sequence[Mapping[str, Any]] = ()
    flows: Sequence[str] | None = None

    def run(self, make: Make) -> None:
        """Makes and writes. Nothing is computed unless all can be written."""
        settings = self.settings
        first = random.randrange(2**31) if settings.seed is None else settings.seed
        seeds = range(first, first + settings.num)
        if self.to == "image":
            files = plan_pictures(settings.output, self.subjects, seeds)
        else:
            files = [settings.output] if settings.output else []
        require_writable(files, settings.overwrite)
        sampling = settings.sampling

        flows = self.flows or [f"{context}-to-{self.to}" for context in dict.fromkeys(self.contexts)]
        pipe = open_pipeline(settings, flows, self.command, settings.lora)
        scale = scale_of(pipe, self.to, settings.guidance_scale)
        started = time.perf_counter()
        with warnings_as_notes():
            outputs = make(pipe, self._options(seeds, scale, sampling))
        say(f"{len(outputs.items)} × {self.to} in {time.perf_counter() - started:.1f} s, seed {first}.")
        own = self.recipes or [{}] * len(self.subjects)
        recipes = [
            {**self._recipe(subject, seed, scale), **more}
            for subject, more in zip(self.subjects, own, strict=True)
            for seed in seeds
        ]
        kept = recipes_of(pipe, outputs.origins, settings, settings.lora)
        if self.to == "image":
            self._write_pictures(outputs.items, recipes, kept or [None] * len(recipes), files)
        else:
            self._write_texts(outputs.items, recipes, kept, files)

    def _options(self, seeds: Sequence[int], guidance_scale: float, sampling: SamplingPreset) -> dict[str, Any]:
        return {
            "num_outputs": self.settings.num,
            **sampling,
            "guidance_scale": guidance_scale,
            "eta": self.settings.eta,
            "generator": generators([seed for _ in self.subjects for seed in seeds]),
        }

    def _recipe(self, subject: str, seed: int, guidance_scale: float) -> dict[str, Any]:
        sampling, interval = self.settings.sampling, self.settings.sampling["guidance_interval"]
        entries = {
            "command": self.command,
            "prompt": subject,
            "seed": seed,
            "steps": sampling["num_inference_steps"],
            "guidance_scale": guidance_scale,
            "guidance_interval": interval and ",".join(map(str, interval)),
            "scheduler": sampling["scheduler"],
            "eta": self.settings.eta or None,
            **self.recipe,
            "lora": " | ".join(self.settings.lora or []) or None,
            "model": self.settings.model,
            "version": __version__,
        }
        return {key: value for key, value in entries.items() if value is not None}

    def _write_pictures(
        self, pictures: list[Any], recipes: list[dict[str, Any]], kept: Sequence[Kept | None], files: list[Path]
    ) -> None:
        from versatile_diffusion.provenance.files import write_picture

        for picture, recipe, one, file in zip(pictures, recipes, kept, files, strict=True):
            write_picture(file, picture, recipe, one)
            if not self.settings.as_json:
                results.print(Text(str(file)))
        if self.settings.as_json:
            _print_json([recipe | {"file": str(file)} for recipe, file in zip(recipes, files, strict=True)])

    def _write_texts(
        self, texts: list[str], recipes: list[dict[str, Any]], kept: Sequence[Kept], files: list[Path]
    ) -> None:
        for file in files:
            write_whole(file, "".join(f"{text}\n" for text in texts).encode())
        if self.settings.as_json:
            told = zip(recipes, texts, kept, strict=True)
            _print_json([recipe | {"text": text, "request": json.loads(one.json)} for recipe, text, one in told])
            return
        for i, text in enumerate(texts):
            if len(self.subjects) > 1 and i % self.settings.num == 0:
                results.print(Text(self.subjects[i // self.settings.num] or '""', "bold"))
            results.print(Text(text))


def open_pipeline(
    options: ModelOptions, flows: Sequence[str] | None, title: str = "", loras: Sequence[str] | None = None
) -> VersatileDiffusionPipeline:
    """The model, ready to generate: on its device, with what the flows need, and with a progress bar of that title.

    Args:
        options: which model, and how to hold it.
        flows: that it is opened for; by default all.
        title: of the progress bar.
        loras: to give it, each "folder" or "folder:scale".
    """
    with messages.status(Text(f"Opening {options.model} …")):
        import torch

        from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
        from versatile_diffusion.devices import choose_device, choose_dtype

        silence_opening()
        device = choose_device(options.device)
        dtype: torch.dtype = choose_dtype(options.dtype, device)
        pipe = VersatileDiffusionPipeline.from_pretrained(options.model, torch_dtype=dtype, flows=flows)
        if options.weights is not None:
            pipe.quantize(options.weights)
        pipe.to(device)
        for folder, scale in map(weighted, loras or []):
            pipe.load_lora(folder, scale=scale)
        pipe.pack()
    pipe.set_progress_bar_config(desc=title, leave=False, disable=None)
    return pipe


def recipes_of(
    pipe: VersatileDiffusionPipeline,
    origins: Sequence[Origin],
    options: ModelOptions,
    loras: Sequence[str] | None = None,
) -> list[Kept]:
    """Recipes of outputs, each of which has a generator of its own."""
    from versatile_diffusion.provenance.replay import computed_by, recipe_of

    computed = computed_by(pipe, options.model, loras or (), options.weights)
    return [recipe_of(origin, computed) for origin in origins]


def scale_of(pipe: VersatileDiffusionPipeline, to: str, given: float | None) -> float:
    """What the user gave, or what the model says of outputs of that modality."""
    return cast("Modality", pipe.modalities[to]).guidance_scale if given is None else given


def generators(seeds: Sequence[int]) -> list[Any]:
    """A generator for each seed. They draw on the CPU, so that every device gives the same outputs."""
    import torch

    return [torch.Generator().manual_seed(seed) for seed in seeds]


def read_picture(file: Path | str) -> Float[Tensor, "3 h w"]:
    """A picture from a file, before the model is opened. Raises ValueError if it cannot be read."""
    from versatile_diffusion.modalities.images import read_images

    return read_images(file)[0]


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
