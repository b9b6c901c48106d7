"""How much one request, one client and all together may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from versatile_diffusion._moved import former_names
from versatile_diffusion.modalities.size_range import longest_side

if TYPE_CHECKING:
    from versatile_diffusion.engine.requests import JobRequest
    from versatile_diffusion.engine.workers import ModelInfo
    from versatile_diffusion.modalities.size_range import SizeRange

__getattr__ = former_names(__name__, {"EngineLimits": "versatile_diffusion.engine.limits:EngineLimits"})


@dataclass(frozen=True)
class Limits:
    """Limits of the server.

    Attributes:
        outputs: how many outputs a request may ask for.
        steps: how many steps the sampler may take.
        pixels: how many pixels an output may have; None is what each model makes well.
        contexts: how many contexts a request may have, negative ones included.
        characters: how many characters a text may have.
        input_pixels: how many pixels all images of a request may have together, or samples where they are sounds.
        answer_pixels: how many pixels all images of an answer may have together where they are enlarged for it.
        body: how many bytes a request may have.
        rate: how many requests a key may send in a minute.
        concurrency: how many unfinished jobs a key may have.
    """

    outputs: int = 8
    steps: int = 250
    pixels: int | None = None
    contexts: int = 8
    characters: int = 2000
    input_pixels: int = 16_000_000
    answer_pixels: int = 2**24
    body: int = 32 * 2**20
    rate: int = 600
    concurrency: int = 16

    def check(self, job: JobRequest, model: ModelInfo) -> None:
        """Raises ValueError if a job asks too much of that model; the message names the limit."""
        request = job.request
        contexts = (*request.contexts, *request.negative)
        words = [data for data in (*(context.data for context in contexts), request.start) if isinstance(data, str)]
        asked = {
            "outputs": (request.num_outputs, self.outputs),
            "steps": (request.num_inference_steps or 0, self.steps),
            "contexts": (len(contexts), self.contexts),
            "characters": (max(map(len, words), default=0), self.characters),
        }
        for what, (count, most) in asked.items():
            if count > most:
                raise ValueError(f"A request may ask for {most} {what} at most, got {count}.")
        if (sizes := model.sizes.get(job.to)) is not None:
            self._check_size(request.height or sizes.native, request.width or sizes.native, sizes)

    def _check_size(self, height: int, width: int, sizes: SizeRange) -> None:
        most = self.pixels or sizes.largest_area
        hint = f"This model was trained at {sizes.native} × {sizes.native}."
        if height * width > most:
            raise ValueError(f"A request may ask for {most} pixels at most, got {height * width}. {hint}")
        if max(height, width) > longest_side(most):  # thin images cost more than their pixels say
            longest = max(height, width)
            raise ValueError(f"A side of an output may have {longest_side(most)} pixels at most, got {longest}. {hint}")

    def check_answer(self, count: int, height: int, width: int) -> None:
        """Raises ValueError if so many images of that size are too much for one answer."""
        if count * height * width > self.answer_pixels:
            raise ValueError(
                f"The pictures of an answer may have {self.answer_pixels} pixels together, got {count} × {width} × "
                f"{height}: ask for a smaller size, or fewer."
            )
