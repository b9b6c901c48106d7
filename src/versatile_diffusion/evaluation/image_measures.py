"""How near a set of made images is to a set of real ones, and each to what it was made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from versatile_diffusion.evaluation.clip import ClipNetwork, clip_score
from versatile_diffusion.evaluation.cmmd import SIGMA, cmmd
from versatile_diffusion.evaluation.estimates import Estimate
from versatile_diffusion.evaluation.fid import frechet_of_features
from versatile_diffusion.evaluation.figures import MeasuredFigure
from versatile_diffusion.evaluation.inception import Inception
from versatile_diffusion.modalities.images import resize

_BATCH = 32

NamedImage = tuple[str, Float[Tensor, "3 h w"]]
"""An image in [0, 1], and what a message calls it."""

Done = Callable[[int], object]
"""Is told how much more is done."""


@dataclass(frozen=True)
class ImageNetworks:
    """What looks at images.

    Attributes:
        clip: for all measures but the FID.
        inception: for the FID, if its weights are there.
        size: pixels of the sides of the squares that Inception is shown.
    """

    clip: ClipNetwork
    inception: Inception | None
    size: int


@dataclass(frozen=True)
class ImageSet:
    """The features of a set of images.

    Attributes:
        clip: embeddings of unit length.
        inception: features of Inception, if it was there.
        sizes: how many images are so many pixels wide and high.
    """

    clip: Float[Tensor, "n d"]
    inception: Float[Tensor, "n f"] | None
    sizes: Counter[tuple[int, int]]

    @property
    def told_sizes(self) -> str:
        """The sizes, for people."""
        (width, height), _ = self.sizes.most_common(1)[0]
        others = len(self.sizes) - 1
        return f"{width}×{height}" + (f" and {others} other sizes" if others else "")


def look_at_images(images: Iterable[NamedImage], networks: ImageNetworks, done: Done) -> ImageSet:
    """Returns the features of images, which are read some at a time.

    Raises:
        ValueError: if a network makes no numbers of an image; the message names it.
    """
    seen: list[Tensor] = []
    features: list[Tensor] = []
    sizes: Counter[tuple[int, int]] = Counter()
    waiting: list[NamedImage] = []

    def look() -> None:
        names, shown = [name for name, _ in waiting], [image for _, image in waiting]
        seen.append(_finite(networks.clip.images(shown), names))
        if networks.inception is not None:
            device = next(networks.inception.parameters()).device
            squares = torch.stack([centre_square(image, networks.size) for image in shown]).to(device)
            features.append(_finite(networks.inception(squares).cpu(), names))
        done(len(waiting))
        waiting.clear()

    for name, image in images:
        sizes[image.shape[-1], image.shape[-2]] += 1
        waiting.append((name, image))
        if len(waiting) == _BATCH:
            look()
    if waiting:
        look()
    return ImageSet(torch.cat(seen), torch.cat(features) if features else None, sizes)


def centre_square(image: Float[Tensor, "3 h w"], size: int) -> Float[Tensor, "3 size size"]:
    """Returns the largest square in the middle of an image, at that size in pixels (bicubic, with antialiasing)."""
    height, width = image.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize(image[:, top : top + side, left : left + side], size, size)


def image_figures(
    real: ImageSet,
    made: ImageSet,
    context: Float[Tensor, "n d"],
    networks: ImageNetworks,
    draws: Int[ndarray, "times n"],
    done: Done,
) -> list[MeasuredFigure]:
    """Measures a set of images.

    Args:
        real: the images of the samples.
        made: what was made of them.
        context: CLIP's embeddings of what each image was made of.
        networks: that looked at the images.
        draws: of the samples, to tell how sure the figures are.
        done: is told after each of 2 × (draws + 1) distances.

    Returns:
        FID (if Inception was there), CLIP-FID, CMMD and CLIP score.
    """
    library, clip = f"torchmetrics {version('torchmetrics')}", networks.clip.name
    figures: list[MeasuredFigure] = []
    if real.inception is not None and made.inception is not None and networks.inception is not None:
        how = f"{library}; Inception-v3 ({networks.inception.source}), {networks.size}×{networks.size}"
        figures.append(MeasuredFigure("FID", _frechet(real.inception, made.inception, draws, done), "lower", how))
    figures.append(
        MeasuredFigure(
            "CLIP-FID", _frechet(real.clip, made.clip, draws, done), "lower", f"{library}; image features of {clip}"
        )
    )
    weights = torch.as_tensor(np.concatenate([np.ones((1, len(real.clip))), draws]))
    distances = cmmd(real.clip, made.clip, weights, weights).numpy()
    kind = f"arXiv 2401.09603, released (biased) form, sigma {SIGMA:g}, × 1000; image features of {clip}"
    figures.append(MeasuredFigure("CMMD", Estimate.of(distances[0], distances[1:]), "lower", kind))
    scores = clip_score(made.clip, context).double().numpy()
    how = f"100 max(cos, 0) of what was made and what of; {clip}"
    figures.append(MeasuredFigure("CLIP score", Estimate.of_mean(scores, draws), "higher", how))
    return figures


def _frechet(
    real: Float[Tensor, "n d"], made: Float[Tensor, "n d"], draws: Int[ndarray, "times n"], done: Done
) -> Estimate:
    """The Fréchet distance of all samples, and how far it moves with those that are drawn."""
    distances: list[float] = []
    for counts in [np.ones(len(real), dtype=np.int64), *draws]:
        times = torch.as_tensor(counts)
        distances.append(frechet_of_features(real.repeat_interleave(times, 0), made.repeat_interleave(times, 0)))
        done(1)
    return Estimate.of(distances[0], distances[1:])


def _finite(features: Float[Tensor, "b d"], names: list[str]) -> Float[Tensor, "b d"]:
    """The features, if they are numbers."""
    good = features.isfinite().all(1)
    if not good.all():
        name = names[int((~good).nonzero()[0])]
        raise ValueError(
            f"The features of {name:.300} are NaN or infinite: look at the file and at the network's weights."
        )
    return features
