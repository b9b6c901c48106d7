"""Draws the gallery: the examples of the studio, by every model that comes with the package, none of them chosen."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from versatile_diffusion.bundled import bundled_weights, world_names
from versatile_diffusion.engine.workers import Source, open_models
from versatile_diffusion.extras import silence_imports
from versatile_diffusion.studio.controls import MaskedImage, Values
from versatile_diffusion.studio.examples import Example
from versatile_diffusion.studio.options import title
from versatile_diffusion.studio.tasks import TASKS, StudioTask
from versatile_diffusion.worlds.registry import get_world

if TYPE_CHECKING:
    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline

Answer = Mapping[str, Any]
"""What `plain.answers` gives of a request."""

INTRODUCTION = """# Gallery

What the bundled models make of the examples of [the studio](studio.md), drawn when this page was built: {steps} steps,
seeds from 1 on, none chosen. A picture that something is made of stands before the arrow.
"""


def draw(steps: int, outputs: int) -> dict[str, str | bytes]:
    """Returns the page and its pictures by their names.

    Args:
        steps: of the sampler.
        outputs: of each example.
    """
    silence_imports()
    sections, pictures = [INTRODUCTION.format(steps=steps)], dict[str, str | bytes]()
    how = {"num_outputs": outputs, "num_inference_steps": steps, "seed": 1}
    for world in filter(bundled_weights, world_names()):
        sections.append(f"## {world.capitalize()}\n")
        (pipe,) = open_models([Source(world, world)], "cpu", "fp32").values()
        for task in TASKS:
            sections += _examples(pipe, world, task, how, pictures)
    return pictures | {"gallery.md": "\n".join(sections)}


def _examples(
    pipe: VersatileDiffusionPipeline,
    world: str,
    task: StudioTask,
    how: Mapping[str, int],
    pictures: dict[str, str | bytes],
) -> Iterator[str]:
    """The examples of a task as Markdown, and their pictures."""
    from versatile_diffusion.serving import plain  # libraries that tell what nobody asked for

    examples = [Example(one.title, one.values) for one in get_world(world).examples(task.key)]
    filled = [_defaults(task) | example.values for example in examples]
    requests = [plain.read(pipe, {"to": task.to, **how, **task.ask(values)}, world) for values in filled]
    if examples:
        yield f"### {task.title}\n\n{task.hint}\n"
    for number, (example, answer) in enumerate(zip(examples, plain.answers(pipe, requests), strict=True)):
        said = title(task, example.values)
        words = example.title if said in (example.title, task.title) else f"{example.title}: “{said}”"
        name = f"gallery/{world}-{task.key}-{number}"
        yield _shown(name, words, _given(example.values), answer, pictures)


def _defaults(task: StudioTask) -> Values:
    return {control.name: control.initial for control in task.controls}


def _given(values: Values) -> list[bytes]:
    """The pictures of an example."""
    found = (value.image if isinstance(value, MaskedImage) else value for value in values.values())
    return [picture for picture in found if isinstance(picture, bytes)]


def _shown(name: str, words: str, given: list[bytes], answer: Answer, pictures: dict[str, str | bytes]) -> str:
    """An example as Markdown: what it is made of, and what came of it."""
    if "error" in answer:
        raise RuntimeError(f"The example {name} cannot be drawn: {answer['error']}")
    made = [base64.b64decode(output["image"]) for output in answer["outputs"] if output["image"]]
    row: list[str] = []
    for number, content in enumerate([*given, *made]):
        file = f"{name}-{number}.png"
        pictures[file] = content
        row.append(f"![{words if number >= len(given) else 'given'}]({file}){{ width=128 }}")
    if given:
        row.insert(len(given), "→")
    texts = [f"- {output['text']}" for output in answer["outputs"] if output["text"]]
    return "\n\n".join([f"**{words}**", " ".join(row), "\n".join(texts)]) + "\n"
