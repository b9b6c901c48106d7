"""`vd demo`: the four flows of a model, on a page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from versatile_diffusion.cli.console import results, say, warnings_as_notes
from versatile_diffusion.cli.files import require_writable
from versatile_diffusion.cli.making import generators, open_pipeline, read_picture, recipes_of, scale_of
from versatile_diffusion.cli.options import GuidanceScale, ModelOptions, Overwrite, Steps
from versatile_diffusion.files import write_whole
from versatile_diffusion.flows import Flow

if TYPE_CHECKING:
    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.pipeline.outputs import Outputs

PROMPT = "a watercolor of a red lighthouse by the sea at sunset"
PICTURE = Path(__file__).parents[1] / "assets" / "example.png"
FLOWS = [Flow.parse(name) for name in ("text-to-image", "image-to-text", "image-variation", "text-variation")]
COUNT = 4


def demo(
    options: ModelOptions,
    prompt: Annotated[str, typer.Option(help="A text to start from.")] = PROMPT,
    image: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A picture to start from; a postcard if left out.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for page and pictures.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of the first output of each flow; the next has the next.")] = 1,
    steps: Steps = 25,
    guidance_scale: GuidanceScale = None,
    overwrite: Overwrite = False,
) -> None:
    """Run all four flows, and write a page that shows them.

    \b
    vd demo
    vd demo --prompt "pixel art of a green tent in the desert" --image photo.jpg --overwrite
    """
    from versatile_diffusion.cli.page import FlowResult, page
    from versatile_diffusion.modalities.images import to_pil
    from versatile_diffusion.provenance.files import write_picture

    seeds = range(seed, seed + COUNT)
    files = {flow: [output / f"{flow}-{i}.png" for i in seeds] for flow in FLOWS if flow.output == "image"}
    index = output / "index.html"
    require_writable([index, *chain.from_iterable(files.values())], overwrite)
    contexts = {"text": prompt, "image": to_pil(read_picture(image or PICTURE))}

    pipe = open_pipeline(options, [str(flow) for flow in FLOWS])
    scales = {to: scale_of(pipe, to, guidance_scale) for to in ("image", "text")}
    started, made = time.perf_counter(), []
    for flow in FLOWS:
        outputs = _run(pipe, flow, contexts[flow.context], seeds, steps, scales[flow.output])
        made.append(FlowResult(str(flow), contexts[flow.context], outputs.items))
        results.print(Text(str(flow), "bold"))
        recipe = {"steps": steps, "guidance_scale": scales[flow.output], "model": options.model}
        kept = recipes_of(pipe, outputs.origins, options)
        for item, seed_of, one, file in zip(outputs.items, seeds, kept, files.get(flow, []), strict=False):
            write_picture(file, item, {"command": f"demo, {flow}", "seed": seed_of, **recipe}, one)
        for shown in files.get(flow) or outputs.items:
            results.print(Text(f"  {shown}"))
    say(f"{len(FLOWS) * COUNT} outputs in {time.perf_counter() - started:.1f} s.")
    how = f"Model {options.model}, {steps} steps, seeds {seeds[0]} to {seeds[-1]}, "
    how += f"guidance scale {scales['image']} for pictures and {scales['text']} for texts."
    write_whole(index, page(made, how).encode())
    results.print(Text(f"Open {index} in a browser.", "bold"))


def _run(
    pipe: VersatileDiffusionPipeline, flow: Flow, data: Any, seeds: Sequence[int], steps: int, guidance_scale: float
) -> Outputs:
    from versatile_diffusion.context import Context

    pipe.set_progress_bar_config(desc=f"{flow!s:15}", leave=False, disable=None)
    with warnings_as_notes():
        return pipe.generate(
            flow.output,
            Context(flow.context, data),
            num_outputs=len(seeds),
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            generator=generators(seeds),
        )
