"""Tasks for modalities that the paper does not know, to or from: each makes one from whatever the model takes."""

from __future__ import annotations

from collections.abc import Iterable

from versatile_diffusion.engine.workers import ModelInfo
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.spec import ShownAs
from versatile_diffusion.studio.asking import as_base64
from versatile_diffusion.studio.controls import (
    AudioControl,
    Control,
    FileControl,
    ImageControl,
    MissingInput,
    NamedFile,
    TextControl,
    Values,
)
from versatile_diffusion.studio.tasks import TASKS, StudioTask


def tasks_for(models: Iterable[ModelInfo]) -> list[StudioTask]:
    """Returns the tasks of the paper, and one for each modality that a model makes, or makes from others, besides."""
    known, others = {task.to for task in TASKS}, dict[str, StudioTask]()
    for model in models:
        for to in model.outputs:
            if to not in known or not known.issuperset(model.contexts):
                others.setdefault(to, _any_context_task(to, model))
    return [*TASKS, *others.values()]


def _any_context_task(to: str, model: ModelInfo) -> StudioTask:
    """A task that makes a modality from whatever the model takes."""
    controls = [_context_control(name) for name in model.contexts]

    def ask(values: Values) -> dict[str, object]:
        contexts = [
            {"modality": name, "data": data}
            for name, control in zip(model.contexts, controls, strict=True)
            if (data := _as_data(values[control.name])) is not None
        ]
        if not contexts:
            raise MissingInput("There is nothing to make it from yet: fill in one field at least.")
        return {"contexts": contexts}

    key = "".join(letter if letter.isalnum() else "-" for letter in to.lower())
    return StudioTask(
        f"make-{key}", f"Any to {to}", f"Make {to} from what you have, or from all of it.", to, controls, ask
    )


def _context_control(modality: str) -> Control:
    """What there is to fill in for a context."""
    match modality_spec(modality).codec:
        case codec if codec.shown_as is ShownAs.IMAGE:
            return ImageControl(f"context-{modality}", modality.capitalize())
        case codec if codec.inline:
            return TextControl(f"context-{modality}", modality.capitalize())
        case codec if codec.shown_as is ShownAs.AUDIO:
            return AudioControl(f"context-{modality}", modality.capitalize(), suffixes=codec.suffixes)
        case codec:
            return FileControl(f"context-{modality}", modality.capitalize(), suffixes=codec.suffixes)


def _as_data(value: object) -> str | None:
    """What was filled in, as the data of a context; None if it is nothing."""
    match value:
        case str() if value.strip():
            return value.strip()
        case bytes():
            return as_base64(value)
        case NamedFile(_, content):
            return as_base64(content)
        case _:
            return None
