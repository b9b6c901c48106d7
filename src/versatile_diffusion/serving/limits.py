"""How much one request, one client and all together may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from versatile_diffusion._moved import former_names

if TYPE_CHECKING:
    from versatile_diffusion.engine.requests import Request
    from versatile_diffusion.engine.workers import ModelInfo

__getattr__ = former_names(__name__, {"EngineLimits": "versatile_diffusion.engine.limits:EngineLimits"})


@dataclass(frozen=True)
class Limits:
    """Limits of the server.

    Attributes:
        outputs: of a request.
        steps: of the sampler.
        pixels: of one output.
        contexts: of a request, negative ones included.
        characters: of one text.
        input_pixels: of all pictures of a request together.
        body: bytes of a request.
        rate: requests that a key may send in a minute.
        concurrency: unfinished jobs that a key may have.
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

    def check(self, request: Request, model: ModelInfo) -> None:
        """Raises ValueError if the request asks too much of that model; the message names the limit."""
        own = model.sizes.get(request.to, 0)
        height, width = request.height or own, request.width or own
        asked = {
            "outputs": (len(request.seeds), self.outputs),
            "steps": (request.num_inference_steps, self.steps),
            "pixels": (height * width, self.pixels),
            "contexts": (len(request.contexts) + len(request.negative), self.contexts),
        }
        texts = [context.data for context in (*request.contexts, *request.negative)] + [request.start]
        asked["characters"] = (max((len(text) for text in texts if isinstance(text, str)), default=0), self.characters)
        for what, (count, most) in asked.items():
            if count > most:
                raise ValueError(f"A request may ask for {most} {what} at most, got {count}.")
        longest = max(height, width)
        if longest**2 > self.pixels * 16:  # thin pictures cost more than their pixels say
            raise ValueError(f"A side of an output may have {int(4 * self.pixels**0.5)} pixels at most, got {longest}.")
