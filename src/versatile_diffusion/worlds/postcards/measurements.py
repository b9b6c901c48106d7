"""What each stage can do, measured before the next one starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import rich
import torch

from versatile_diffusion.evaluation.scores import Score, score
from versatile_diffusion.files import write_whole
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.processes import processes
from versatile_diffusion.training.checkpoint import identity
from versatile_diffusion.worlds.postcards.attribute_classifier import Oracle
from versatile_diffusion.worlds.postcards.material import VIEWS, Material
from versatile_diffusion.worlds.postcards.stage_scores import (
    read_attributes,
    reconstruction_accuracy,
    retrieval_accuracy,
    text_reconstruction_accuracy,
)

FILE = "measurements.json"


class Measurements:
    """A file of scores by stage. A stage is measured again only when its weights have changed.

    Args:
        folder: of the run.
        fresh: postcards that were not learnt from.
    """

    def __init__(self, folder: Path, fresh: Material) -> None:
        self.folder, self.fresh = folder, fresh

    def oracle(self, oracle: Oracle) -> None:
        """How well the oracle itself reads."""
        truth = [scene.attributes for scene in self.fresh.scenes]
        self._measure("oracle", lambda: score(truth, read_attributes(oracle, torch.stack(self._pictures()))))

    def kl(self, image: ImageModality, oracle: Oracle) -> None:
        """What the oracle reads of reconstructed pictures."""
        scenes = self.fresh.scenes
        self._measure("kl", lambda: reconstruction_accuracy(oracle, image, self._pictures(), scenes))

    def clip(self, image: ImageModality, text: TextModality) -> None:
        """How often a picture's caption, which leaves out nothing, is found among 64."""
        whole = self.fresh.texts[VIEWS - 1 :: VIEWS]
        self._measure("clip", lambda: retrieval_accuracy(image, text, self._pictures(), whole, choices=64))

    def optimus(self, text: TextModality) -> None:
        """How many texts come back with the same meaning."""
        self._measure("optimus", lambda: text_reconstruction_accuracy(text, self.fresh.texts))

    def _pictures(self) -> list[torch.Tensor]:
        return list(self.fresh.pictures(0, len(self.fresh.scenes)))

    def _measure(self, stage: str, compute: Callable[[], Score | float]) -> None:
        measured = read_measurements(self.folder).get(stage, {})
        weights = identity(self.folder / stage)
        if not processes().is_main_process or measured.get("weights") == weights:
            return
        result = compute()
        figures = asdict(result) if isinstance(result, Score) else {"accuracy": result}
        rich.print(f"{stage}: accuracy {figures['accuracy']:.4f} on {len(self.fresh.scenes)} fresh postcards")
        known = read_measurements(self.folder) | {stage: {"weights": weights, **figures}}
        write_whole(self.folder / FILE, (json.dumps(known, indent=2) + "\n").encode())


def read_measurements(folder: Path) -> dict[str, dict[str, Any]]:
    """The figures of each stage of a run that has been measured."""
    path = folder / FILE
    return json.loads(path.read_text()) if path.exists() else {}
