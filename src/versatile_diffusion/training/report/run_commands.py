"""What one may do with a run, as words of commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.training.settings.choices import Trained
from versatile_diffusion.training.settings.training_settings import TrainingSettings


@dataclass(frozen=True)
class RunPlaces:
    """Where a run is kept.

    Attributes:
        folder: that `vd train` goes on in.
        target: the folder of what is trained.
        stage: of a recipe, if the run is one: its settings are those of the run under its name.
    """

    folder: Path
    target: Path
    stage: str = ""


def model_options(settings: TrainingSettings, start: str, target: Path) -> list[str]:
    """Returns the options of a command that say which model it is.

    Args:
        settings: of the run.
        start: the model that a LoRA belongs to.
        target: the folder of what was trained.
    """
    if settings.train is Trained.LORA:
        return ["--model", start, "--lora", f"{target}:1.0"]
    return ["--model", str(target)]


def use_command(flows: Sequence[Flow], model: Sequence[str]) -> list[str]:
    """Returns the command that uses a model: by a prompt, if one of its flows takes one.

    Args:
        flows: that were learnt.
        model: see `model_options`.
    """
    prompted = [flow for flow in flows if modality_spec(flow.context).codec.inline]
    flow = (prompted or list(flows))[0]
    return ["vd", str(flow), "a prompt" if prompted else "FILE", *model]


def run_commands(
    settings: TrainingSettings, flows: Sequence[Flow], start: str, places: RunPlaces
) -> list[tuple[str, list[str]]]:
    """Returns what one may do with a run, and the command that does it.

    Args:
        settings: of the run.
        flows: that are learnt.
        start: see `model_options`.
        places: where it is kept.
    """
    model, measured = model_options(settings, start, places.target), f"{flows[0].output}s"
    run = ["vd", "train", str(places.folder / "run.yaml"), "--output", str(places.folder)]
    steps = f"{places.stage}.steps" if places.stage else "steps"
    evaluate = ["vd", "evaluate", measured, "--data", settings.data, "--num", "200", *model]
    return [
        ("Use it", use_command(flows, model)),
        ("Evaluate it, at best on other data than it learnt from", [*evaluate, "--card", str(places.target)]),
        ("Look at it in the studio", ["vd", "app", *model]),
        ("Serve it", ["vd", "serve", *model]),
        ("Go on, where it was stopped", run),
        ("Go on to twice as many steps", [*run, "--set", f"{steps}={2 * settings.steps}"]),
    ]
