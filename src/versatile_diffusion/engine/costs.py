"""What a job costs, before it is computed: from what it asks for, and from how quick its model was so far."""

from __future__ import annotations

import math

from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.workers import ModelInfo

_NEWEST = 0.2
"""What the last measurement counts in the mean."""


def cost(job: JobRequest, model: ModelInfo) -> float:
    """Returns what a job costs: steps × evaluations of a step × positions of a latent × outputs."""
    request = job.request
    steps = max(1, (request.num_inference_steps or 1) * request.strength)
    scale = request.guidance_scale
    guided = model.guidance_scales.get(job.to, 1.0) if scale is None else scale
    low, high = request.guidance_interval or (0, 1)
    evaluations = 1.0 if guided == 1 else 1 + high - low
    return steps * evaluations * _positions(job, model) * request.num_outputs


def _positions(job: JobRequest, model: ModelInfo) -> float:
    sizes, request = model.sizes.get(job.to), job.request
    if sizes is None:
        return 1.0
    return (request.height or sizes.native) * (request.width or sizes.native) / sizes.multiple**2


class Speed:
    """How quick each model is in making each modality, as was measured so far."""

    def __init__(self) -> None:
        self._mean: dict[tuple[str, str], float] = {}
        self._best: dict[tuple[str, str], float] = {}

    def measured(self, job: JobRequest, cost: float, seconds: float) -> None:
        """Learns that what costs so much took so many seconds. Jobs beside it in its batch are in the cost."""
        kind, rate = (job.model, job.to), seconds / cost
        self._mean[kind] = self._mean.get(kind, rate) + _NEWEST * (rate - self._mean.get(kind, rate))
        self._best[kind] = min(self._best.get(kind, rate), rate)

    def seconds(self, job: JobRequest, cost: float) -> float:
        """Returns how many seconds that will take; infinity before anything like it was measured."""
        return cost * self._mean.get((job.model, job.to), math.inf)

    def at_best(self, job: JobRequest, cost: float) -> float:
        """Returns how many seconds that takes at the best speed that was seen; 0 if none was."""
        return cost * self._best.get((job.model, job.to), 0.0)
