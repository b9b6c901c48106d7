"""How much one request, one client and all together may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from versatile_diffusion._moved import former_names

if TYPE_CHECKING:
    from versatile_diffusion.engine.requests import JobRequest
    from versatile_diffusion.engine.workers import ModelInfo

__getattr__ = former_names(__name__, {"EngineLimits": "versatile_diffusion.engine.limits:EngineLimits"})


@dataclass(frozen=True)
class Limits:
    """Limits of the server.

    Attributes:
        outputs: how many outputs a request may ask for.
        steps: how many steps the sampler may take.
        pixels: how many pixels an output may have.
        contexts: how many contexts a request may have, negative ones included.
        characters: how many characters a text may have.
        input_pixels: how many pixels all images of a request may have together, or samples where they are sounds.
        body: how many bytes a request may have.
        rate: how many requests a key may send in a minute.
        concurrency: how many unfinished jobs a key may have.
    """

    outputs: int = 8
    steps: int = 250
    pixels: int = 1024 * 1024
    contexts: int = 8
    characters: int = 2000
    input_pixels: int = 16_000_000
    body: int = 32 * 2**20
    rate: int = 600
    concurrency: int = 16

    def check(self, job: JobRequest, model: ModelInfo) -> None:
        """Raises ValueError if a job asks too much of that model; the message names the limit."""
        request, own = job.request, model.sizes.get(job.to, 0)
        height, width = request.height or own, request.width or own
        contexts = (*request.contexts, *request.negative)
        words = [data for data in (*(context.data for context in contexts), request.start) if isinstance(data, str)]
        asked = {
            "outputs": (request.num_outputs, self.outputs),
            "steps": (request.num_inference_steps, self.steps),
            "pixels": (height * width, self.pixels),
            "contexts": (len(contexts), self.contexts),
            "characters": (max(map(len, words), default=0), self.characters),
        }
        for what, (count, most) in asked.items():
            if count > most:
                raise ValueError(f"A request may ask for {most} {what} at most, got {count}.")
        longest = max(height, width)
        if longest**2 > self.pixels * 16:  # thin images cost more than their pixels say
            raise ValueError(f"A side of an output may have {int(4 * self.pixels**0.5)} pixels at most, got {longest}.")
