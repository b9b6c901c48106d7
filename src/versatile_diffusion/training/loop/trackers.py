"""Where a run is followed besides its folder: TensorBoard, Weights & Biases and trackio, by accelerate's trackers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from accelerate.tracking import (  # pyright: ignore[reportMissingTypeStubs] - accelerate has no types
    GeneralTracker,
    TensorBoardTracker,
    TrackioTracker,
    WandBTracker,
)
from accelerate.utils import (  # pyright: ignore[reportMissingTypeStubs] - likewise
    is_tensorboard_available,
    is_trackio_available,
    is_wandb_available,
)
from jaxtyping import Float
from torch import Tensor

from versatile_diffusion.files import write_whole
from versatile_diffusion.modalities.images import to_pil
from versatile_diffusion.training.settings.choices import TrackerName

PROJECT = "versatile-diffusion"
"""What trackers that part runs by projects file them under."""

_TITLE = "tracking.json"
_INSTALLED = {
    TrackerName.TENSORBOARD: is_tensorboard_available,
    TrackerName.WANDB: is_wandb_available,
    TrackerName.TRACKIO: is_trackio_available,
}
_EXTRAS = {TrackerName.TENSORBOARD: "train"}
"""What installs a tracker, where that has another name."""


@dataclass(frozen=True)
class Tracking:
    """Which trackers follow a run, and what they are told of it.

    Attributes:
        names: of trackers; by default TensorBoard.
        title: of the run, unlike that of any other; see `run_title`.
        settings: of the run, as JSON holds them.
    """

    names: Sequence[TrackerName] = (TrackerName.TENSORBOARD,)
    title: str = "run"
    settings: Mapping[str, object] = field(default_factory=dict[str, object])

    def require(self) -> None:
        """Raises ImportError, which says what to install, unless all trackers are there."""
        for name in self.names:
            if name in _INSTALLED and not _INSTALLED[name]():
                extra = _EXTRAS.get(name, name.value)
                raise ImportError(
                    f"--log-with {name.value} needs {name.value}: pip install 'versatile-diffusion[{extra}]'. "
                    "Or take another of tensorboard, wandb, trackio and none."
                )

    def start(self, folder: Path, step: int) -> list[GeneralTracker]:
        """Starts the trackers that are installed, and returns them.

        Args:
            folder: of the run; what TensorBoard and wandb keep lies in it.
            step: the last one that is done; of later ones, which an interrupted run may have told, TensorBoard forgets.
        """
        known = [name for name in self.names if name in _INSTALLED and _INSTALLED[name]()]
        found = [self._tracker(name, folder, step) for name in known]
        for tracker in found:
            tracker.start()
        return found

    def _tracker(self, name: TrackerName, folder: Path, step: int) -> GeneralTracker:
        told: dict[str, Any] = {"name": self.title, "config": dict(self.settings), "resume": "allow"}
        match name:
            case TrackerName.WANDB:  # whose ways to catch what is printed would tear the progress bar apart
                quiet = {"console": "off"}
                return WandBTracker(PROJECT, id=self.title, dir=str(folder), settings=quiet, **told)  # pyright: ignore[reportUnknownMemberType] - accelerate has no types
            case TrackerName.TRACKIO:
                return TrackioTracker(PROJECT, embed=False, **told)  # pyright: ignore[reportUnknownMemberType] - likewise
            case _:
                return TensorBoardTracker("tensorboard", folder, purge_step=step + 1)  # pyright: ignore[reportUnknownMemberType] - likewise


def run_title(folder: Path) -> str:
    """Returns what trackers call the run of a folder, the same whenever it goes on, and unlike that of any other."""
    file = folder / _TITLE
    if not file.exists():
        name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in folder.absolute().name)
        write_whole(file, json.dumps({"title": f"{name[:48]}-{uuid4().hex[:8]}"}).encode())
    return str(json.loads(file.read_text())["title"])


def show_image(tracker: GeneralTracker, name: str, image: Float[Tensor, "3 h w"], step: int) -> None:
    """Shows an image with colours in [0, 1], as the tracker takes it."""
    match tracker:
        case TensorBoardTracker():
            tracker.log_images({name: image.cpu().numpy()[None]}, step=step)  # pyright: ignore[reportUnknownMemberType] - accelerate has no types
        case WandBTracker():
            tracker.log_images({name: [to_pil(image)]}, step=step)  # pyright: ignore[reportUnknownMemberType] - likewise
        case _:  # accelerate's tracker leaves images to trackio itself
            shown: object = import_module("trackio").Image(np.asarray(to_pil(image)))
            tracker.log({name: shown}, step=step)  # pyright: ignore[reportUnknownMemberType] - likewise
