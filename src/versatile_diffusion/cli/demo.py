"""`vd demo`: the four flows of a model, on a page."""
# pyright: strict

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from versatile_diffusion.bundled import DEFAULT_MODEL
from versatile_diffusion.cli.console import results, say, warnings_as_notes
from versatile_diffusion.cli.files import require_writable
from versatile_diffusion.cli.flags import Taken
from versatile_diffusion.cli.opening import open_pipeline, records_of, resolved_for, show_progress
from versatile_diffusion.cli.options import ModelOptions, Overwrite, require_seeds, set_options
from versatile_diffusion.cli.writing import UnwrittenOutput, write_outputs
from versatile_diffusion.files import write_whole
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.sampling.options import Sampling
from versatile_diffusion.worlds.base import ExampleImage
from versatile_diffusion.worlds.registry import find_world, get_world

if TYPE_CHECKING:
    from PIL import Image

    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.pipeline.outputs import Outputs

FLOWS = [Flow.parse(name) for name in ("text-to-image", "image-to-text", "image-variation", "text-variation")]
COUNT, STEPS, SIZE = 4, 25, 256


def demo(
    options: ModelOptions,
    sampling: Annotated[Sampling, Taken(without=("strength", "height", "width"))],
    prompt: Annotated[
        str | None, typer.Option(help="A text to start from; one that the model knows if left out.")
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="A picture to start from; one of the model's world if left out."
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for page and pictures.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of the first output of each flow; the next has the next.")] = 1,
    overwrite: Overwrite = False,
) -> None:
    """Run all four flows in 25 steps, or as you say, and write a page that shows them.

    \b
    vd demo
    vd demo --prompt "pixel art of a green tent in the desert" --image photo.jpg --overwrite
    """
    from versatile_diffusion.cli.page import FlowResult, page
    from versatile_diffusion.modalities.images import read_images, to_pil

    if sampling.preset is None and sampling.num_inference_steps is None:
        sampling = sampling.replaced(num_inference_steps=STEPS)
    seeds = require_seeds(seed, COUNT)
    files = {flow: [output / f"{flow}-{i}.png" for i in seeds] for flow in FLOWS if flow.output == IMAGE.name}
    index = output / "index.html"
    require_writable([index, *chain.from_iterable(files.values())], overwrite)
    contexts = {
        TEXT.name: _example_text(options.model) if prompt is None else prompt,
        IMAGE.name: _example_image(options.model) if image is None else to_pil(read_images(image)[0]),
    }

    pipe = open_pipeline(options, [str(flow) for flow in FLOWS])
    how = {to: resolved_for(pipe, to, sampling) for to in (IMAGE.name, TEXT.name)}
    started, made = time.perf_counter(), list[FlowResult]()
    for flow in FLOWS:
        outputs = _run(pipe, flow, contexts[flow.context], seeds, sampling)
        made.append(FlowResult(str(flow), contexts[flow.context], outputs.items))
        results.print(Text(str(flow), "bold"))
        _write(pipe, flow, outputs, files.get(flow, []), seeds, options, how[flow.output])
        for shown in files.get(flow) or outputs.items:
            results.print(Text(f"  {shown}"))
    say(f"{len(FLOWS) * COUNT} outputs in {time.perf_counter() - started:.1f} s.")
    told = f"Model {options.model}, {how[IMAGE.name].num_inference_steps} steps, seeds {seeds[0]} to {seeds[-1]}, "
    scales = [how[to].guidance_scale for to in (IMAGE.name, TEXT.name)]
    told += f"guidance scale {scales[0]} for pictures and {scales[1]} for texts."
    write_whole(index, page(made, told).encode())
    results.print(Text(f"Open {index} in a browser.", "bold"))


def _example_text(model: str) -> str:
    return next(text for text in _examples(model, FLOWS[0], "prompt") if isinstance(text, str))


def _example_image(model: str) -> Image.Image:
    from PIL import Image

    examples = _examples(model, FLOWS[1], "picture")
    return next(Image.fromarray(image.draw(SIZE)) for image in examples if isinstance(image, ExampleImage))


def _examples(model: str, flow: Flow, name: str) -> Iterator[object]:
    """What fills in the studio's form of a flow: examples of the model's world, then of the default one."""
    for world in filter(None, (find_world(model), get_world(DEFAULT_MODEL))):
        yield from (example.values.get(name) for example in world.examples(str(flow)))


def _run(
    pipe: VersatileDiffusionPipeline, flow: Flow, data: object, seeds: Sequence[int], sampling: Sampling
) -> Outputs:
    from versatile_diffusion.context import Context

    show_progress(pipe, f"{flow!s:15}")
    with warnings_as_notes():
        return pipe.generate(
            flow.output,
            Context(flow.context, data),
            num_outputs=len(seeds),
            seeds=tuple(seeds),
            **set_options(sampling),
        )


def _write(
    pipe: VersatileDiffusionPipeline,
    flow: Flow,
    outputs: Outputs,
    files: Sequence[Path],
    seeds: Sequence[int],
    options: ModelOptions,
    sampling: Sampling,
) -> None:
    """Writes what a flow made, if it is shown by files."""
    from versatile_diffusion.provenance.words import sampling_words

    if not files:
        return
    words = {"command": f"demo, {flow}", **sampling_words(sampling), "model": options.model}
    records = records_of(pipe, outputs.origins, options)
    made = zip(files, outputs.items, seeds, records, strict=True)
    unwritten = [UnwrittenOutput(file, item, {**words, "seed": seed}, record) for file, item, seed, record in made]
    write_outputs(flow.output, unwritten)
