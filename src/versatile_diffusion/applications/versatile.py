# pyright: strict
"""The pipeline that users open: what the paper makes, by its names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Generator

from versatile_diffusion.applications.brain_decoding import Reconstructions, Scans, check_counts, reconstruct, seeds
from versatile_diffusion.applications.editing import edit
from versatile_diffusion.context import Context
from versatile_diffusion.pipeline.outputs import Outputs
from versatile_diffusion.pipeline.pipeline import FlowPipeline


class VersatileDiffusionPipeline(FlowPipeline):
    """The four flows of the paper, their mixture, and what is made with them: short ways to call `generate`.

    Args:
        diffuser: predicts the noise.
        scheduler: any scheduler of `schedulers.USABLE`; may be replaced at any time.
        modalities: by name.
    """

    def text_to_image(self, prompt: str | list[str], **options: Any) -> Outputs:
        """Makes pictures of a text. For the options see `generate`."""
        return self.generate("image", [Context("text", prompt)], **options)

    def image_to_text(self, image: object, **options: Any) -> Outputs:
        """Writes texts about a picture. For the options see `generate`."""
        return self.generate("text", [Context("image", image)], **options)

    def image_variation(
        self, image: object, fidelity: float = 0.0, focus: float = 0.5, color_adjust: bool = False, **options: Any
    ) -> Outputs:
        """Makes pictures like a picture.

        Args:
            image: the picture, or a list of them.
            fidelity: how much of the picture's layout is kept: 0 starts from noise, 1 is the picture itself.
            focus: 0 keeps semantics, 1 keeps style, 0.5 keeps both.
            color_adjust: whether to give the results the picture's colour statistics.
            options: see `generate`.

        Raises:
            ValueError: if fidelity or focus do not lie in [0, 1].
        """
        fidelity = _share("fidelity", fidelity, "free", "the picture itself")
        if fidelity > 0:
            options = {"start": image, "strength": 1 - fidelity} | options
        if color_adjust:
            options = {"colors_of": image} | options
        return self.generate("image", [Context("image", image, focus=focus)], **options)

    def text_variation(self, prompt: str | list[str], **options: Any) -> Outputs:
        """Writes texts like a text. For the options see `generate`."""
        return self.generate("text", [Context("text", prompt)], **options)

    def dual_guided(
        self, prompt: str | list[str], image: object, text_to_image_strength: float = 0.5, **options: Any
    ) -> Outputs:
        """Makes pictures of a text and a picture.

        Args:
            prompt: the text.
            image: the picture.
            text_to_image_strength: share of the text; 0 is the picture alone, 1 the text alone.
            options: see `generate`.

        Raises:
            ValueError: if the share does not lie in [0, 1].
        """
        share = _share("text_to_image_strength", text_to_image_strength, "the picture alone", "the text alone")
        text = Context("text", prompt, weight=share)
        return self.generate("image", [text, Context("image", image, weight=1 - share)], **options)

    def edit(
        self,
        image: object,
        prompt: str | Sequence[str] | None = None,
        remove: str | Sequence[str] | None = None,
        add: str | Sequence[str] | None = None,
        *,
        method: str = "rewrite",
        text_share: float | None = None,
        strength: float = 1.0,
        **options: Any,
    ) -> Outputs:
        """Changes a picture by words. The model must make texts, too.

        Args:
            image: the picture, or a list of them.
            prompt: what it is to become, such as "an oil painting"; for all pictures, or one for each.
            remove: words for what is to go.
            add: words for what is to come, in its place if it has one.
            method: "rewrite" changes the words that the model finds for the picture; "latent" is the official I2T2I.
            text_share: weight of the new text beside the picture; by default what suits the method.
            strength: below 1 starts from the picture and keeps its layout; 0 changes nothing.
            options: see `generate`.

        Raises:
            ValueError: if there is nothing to change, no such method, or a share or strength out of range.
        """
        return edit(self, image, prompt, remove, add, method, text_share, strength, **options)

    def reconstruct(
        self,
        image_embedding: object = None,
        text_embedding: object = None,
        image_weight: float = 0.5,
        start: object = None,
        strength: float = 1.0,
        num_outputs: int = 8,
        rank_by: str | None = None,
        batch_size: int = 8,
        image_unconditional: object = "default",
        text_unconditional: object = "default",
        seed: int | None = None,
        generator: Generator | Sequence[Generator] | None = None,
        **options: Any,
    ) -> Reconstructions:
        """Makes pictures from CLIP embeddings that were predicted from scans of a brain.

        An output depends on its scan and its seed alone, not on its batch.

        Args:
            image_embedding: context tokens of the picture, (n d) of one scan or (scans n d); tensors or arrays.
            text_embedding: context tokens of a text about it, likewise.
            image_weight: share of the image, where both are given.
            start: latents (scans c y x), or pictures, to start from; one for each scan, or one for all.
            strength: 1 forgets the start, 0 keeps it.
            num_outputs: pictures of each scan.
            rank_by: None leaves the pictures in the order of their seeds. The most similar one comes first with
                "image", the cosine similarity of its class token to the predicted one, or "tokens", the mean of those
                of all tokens.
            batch_size: outputs made at once; bounds the memory that is needed beside the results.
            image_unconditional: see `Context`; "default" is zeros.
            text_unconditional: see `Context`; "default" is the empty text.
            seed: of the first picture of each scan; the next has the next. Random if left out.
            generator: instead of a seed, what to draw it from, or one generator for each output.
            options: see `generate`.

        Raises:
            ValueError, TypeError: if an argument is not usable; the message says what would be.
        """
        image_weight = _share("image_weight", image_weight, "the text alone", "the image alone")
        check_counts(num_outputs=num_outputs, batch_size=batch_size)
        mixed = image_embedding is not None and text_embedding is not None
        scans = Scans.of(
            self,
            {"image": image_embedding, "text": text_embedding},
            {"image": image_weight, "text": 1 - image_weight} if mixed else {"image": 1.0, "text": 1.0},
            {"image": image_unconditional, "text": text_unconditional},
            start,
        )
        return reconstruct(
            self,
            scans,
            num_outputs=num_outputs,
            rank_by=rank_by,
            batch_size=batch_size,
            draw=seeds(seed, generator, scans.count, num_outputs),
            strength=strength,
            **options,
        )


def _share(name: str, value: object, none: str, whole: str) -> float:
    """A number from 0 to 1. Raises ValueError if it is none, which says what these two mean."""
    try:
        share = float(value)  # pyright: ignore[reportArgumentType] - of anything, which is what is checked
    except (TypeError, ValueError):
        share = math.nan
    if not 0 <= share <= 1:
        raise ValueError(f"{name} must lie between 0 ({none}) and 1 ({whole}), got {value!r:.80}.")
    return share
