"""Images: a KL autoencoder, CLIP's vision transformer and convolutional data layers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from math import log
from typing import Any, cast

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config  # pyright: ignore[reportUnknownVariableType] - untyped
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float
from PIL import Image
from torch import Generator, Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from versatile_diffusion.diffuser.data_layers import ConvolutionalLayers
from versatile_diffusion.diffuser.plan import Plan
from versatile_diffusion.modalities.base import OFFICIAL_GUIDANCE_SCALE, Presented
from versatile_diffusion.modalities.clip import ClipImageEncoder
from versatile_diffusion.modalities.focus import adjust_focus, match_color
from versatile_diffusion.modalities.image_autoencoder import image_autoencoder
from versatile_diffusion.modalities.image_spec import IMAGE, pixels_per_position
from versatile_diffusion.modalities.images import present, read_images, read_mask, resize, to_pil
from versatile_diffusion.modalities.parts import ModalityOfParts, loaded
from versatile_diffusion.modalities.size_range import SizeRange

_LONGEST = 4  # sides of an image as CLIP sees it; what sticks out further is cropped before it is resized


class ImageModality(ModalityOfParts[Tensor]):
    """Images. Items are float32 tensors (3 h w) in [0, 1].

    Args:
        autoencoder: arguments of diffusers' AutoencoderKL, or of `PatchAutoencoderKL`; None leaves it out.
        context_encoder: a transformers CLIPVisionConfig as a dict; None leaves it out.
        scaling_factor: brings latents to about unit variance.
        guidance_scale: default for outputs; see `Guidance`.
        largest_area: pixels beyond which outputs fall apart; None is four times the area of training.
    """

    spec = IMAGE

    @register_to_config
    def __init__(
        self,
        autoencoder: dict[str, Any] | None = None,
        context_encoder: dict[str, Any] | None = None,
        scaling_factor: float = 0.18215,
        guidance_scale: float = OFFICIAL_GUIDANCE_SCALE,
        largest_area: int | None = None,
    ) -> None:
        super().__init__()
        self.autoencoder = None if autoencoder is None else image_autoencoder(autoencoder)
        self.context_encoder = None if context_encoder is None else ClipImageEncoder(dict(context_encoder))

    @property
    def context_dim(self) -> int:
        """Width of the context tokens."""
        return self._context_encoder().dim

    @property
    def context_lengths(self) -> tuple[int, ...]:
        """An item has the class token and the patches as its context, or the patches alone."""
        return (1 + self._patches, self._patches)

    @property
    def packable(self) -> tuple[nn.Module, ...]:
        """See `Modality.packable`."""
        return () if self.autoencoder is None else (self.autoencoder,)

    @property
    def factor(self) -> int:
        """How many pixels of an image, in height and in width, one position of its latent stands for."""
        return pixels_per_position(self._autoencoder().config)

    @property
    def size(self) -> int:
        """Height and width of images where the user gives none, in pixels: the size of training."""
        return self._autoencoder().config["sample_size"]

    @property
    def sizes(self) -> SizeRange:
        """See `Modality.sizes`."""
        return SizeRange.of(self.size, self.factor, self.config["largest_area"])

    def data_layers(self, plan: Plan) -> ConvolutionalLayers:
        """See `Modality.data_layers`."""
        return ConvolutionalLayers(plan, self._autoencoder().config["latent_channels"])

    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, ...]:
        """Returns the shape (c h w) of the latent of an image of that size in pixels, by default the size of training.

        Raises:
            ValueError: if the autoencoder cannot make images of that size.
        """
        config = self._autoencoder().config
        sides = [self.size if side is None else side for side in (height, width)]
        for side, called in zip(sides, ("height", "width"), strict=True):
            if side < 1 or side % self.factor:
                below = max(side // self.factor, 1) * self.factor
                above = below if below > side else below + self.factor
                near = f"{below}" if below == above else f"{below} or {above}"
                raise ValueError(f"{called} must be divisible by {self.factor}, got {side}: take {near}.")
        if sides == [self.factor, self.factor]:  # whose variance is 0, and normalisation divides by it
            raise ValueError(
                f"height and width cannot both be {self.factor}, which is a single position of a latent: take "
                f"{2 * self.factor} or more for one of them."
            )
        return (config["latent_channels"], *(side // self.factor for side in sides))

    def read(self, data: object) -> list[Float[Tensor, "3 h w"]]:
        """See `read_images`."""
        return read_images(data)

    def fit(
        self, items: Sequence[Float[Tensor, "3 _ _"]], height: int | None = None, width: int | None = None
    ) -> list[Float[Tensor, "3 h2 w2"]]:
        """Returns images stretched to a size, by default the size of training, as the official demo does."""
        _, *sides = self.latent_shape(height, width)
        rows, columns = (side * self.factor for side in sides)
        return [resize(item, rows, columns) for item in items]

    def crop(
        self, item: Float[Tensor, "3 _ _"], multiple: int, size: int | None = None
    ) -> Float[Tensor, "3 height width"]:
        """See `Modality.crop`: the middle of the image, in the one of `aspect_buckets` that is nearest to its own."""
        height, width = item.shape[-2:]
        buckets = aspect_buckets(self.size if size is None else size, multiple * self.factor)
        rows, columns = min(buckets, key=lambda sides: abs(log(sides[0] / sides[1] * width / height)))
        scale = max(rows / height, columns / width)
        middle = _center(item, min(height, round(rows / scale)), min(width, round(columns / scale)))
        return resize(middle, rows, columns)

    def context_view(self, item: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 size size"]:
        """See `Modality.context_view`: the square that CLIP sees, in the size in which it does."""
        return clip_view(item, self._context_encoder().image_size)

    def latent_shape_of(self, item: Float[Tensor, "3 h w"]) -> tuple[int, ...]:
        """See `Modality.latent_shape_of`."""
        return self.latent_shape(*item.shape[-2:])

    @torch.no_grad()
    def encode(self, items: Sequence[Float[Tensor, "3 h w"]]) -> Float[Tensor, "b c y x"]:
        """Returns the latents of images, first stretched to the nearest size that the autoencoder takes.

        Raises:
            ValueError: if the images differ in size.
        """
        if len({item.shape for item in items}) != 1:
            raise ValueError("Pictures of one batch must have the same size: resize them.")
        height, width = (max(round(side / self.factor), 1) * self.factor for side in items[0].shape[-2:])
        if height == width == self.factor:  # a single position cannot be normalised; see `latent_shape`
            width = 2 * self.factor
        images = torch.stack([resize(item, height, width) for item in items]).to(self.device, self.dtype)
        posterior = self._autoencoder().encode(_channels_last(2 * images - 1), return_dict=False)[0]
        return posterior.mode() * self.config["scaling_factor"]

    @torch.no_grad()
    def decode(
        self,
        latents: Float[Tensor, "b c y x"],
        generators: Sequence[Generator] | None = None,
        *,
        colors_of: object = None,
    ) -> list[Float[Tensor, "3 h w"]]:
        """Returns the images of latents ; nothing is drawn.

        Args:
            latents: one for each image.
            generators: not needed.
            colors_of: an image whose colour statistics the images take, or a list of them, each for as many
                images in a row.
        """
        autoencoder = self._autoencoder()
        scaled = _channels_last(latents.to(self.device, self.dtype) / self.config["scaling_factor"])
        decode: Callable[..., tuple[Tensor]] = autoencoder.decode  # pyright: ignore - typed in part in diffusers
        (decoded,) = decode(scaled, return_dict=False)
        images = list((decoded.float() / 2 + 0.5).clamp(0, 1))
        if colors_of is None:
            return images
        references = self._references(colors_of, len(images))
        return [match_color(image, reference) for image, reference in zip(images, references, strict=True)]

    def check_decoding(self, count: int, **options: object) -> None:
        """See `Modality.check_decoding`."""
        if options.get("colors_of") is not None:
            self._references(options["colors_of"], count)

    def _references(self, colors_of: object, count: int) -> list[Float[Tensor, "3 _ _"]]:
        """The image whose colours each of so many images takes."""
        references = self.read(colors_of)
        if not references or count % len(references):
            raise ValueError(f"{count} pictures cannot share the colours of {len(references)} evenly.")
        return [reference for reference in references for _ in range(count // len(references))]

    @torch.no_grad()
    def embed(self, items: Sequence[Float[Tensor, "3 _ _"]], masks: object = None) -> Float[Tensor, "b n d"]:
        """Returns the context tokens of images: the class token, then the patches of the central square, row by row.

        Args:
            items: images of any sizes.
            masks: None, a mask for all images, or a list with a mask (or None) for each; see `read_mask`. A mask is
                stretched over its image, with a warning if its size is another. It weighs each patch by the share
                that it keeps, the class token by the share of the whole, as the official code does.
        """
        encoder = self._context_encoder()
        pixels = torch.stack([clip_pixels(item, encoder.image_size) for item in items]).to(self.device, self.dtype)
        if masks is None:
            return encoder(pixels)
        given = cast("Sequence[object]", masks) if isinstance(masks, list | tuple) else [masks] * len(items)  # of any
        each = list(given)
        if len(each) != len(items):
            raise ValueError(f"{len(items)} pictures need as many masks, or one for all, got {len(each)}.")
        weights = [
            token_weights(mask, item, encoder.image_size, encoder.grid) for mask, item in zip(each, items, strict=True)
        ]
        return encoder(pixels, torch.stack(weights).to(pixels))

    def shared_vectors(self, items: Sequence[Float[Tensor, "3 _ _"]]) -> Float[Tensor, "b d"]:
        """See `Modality.shared_vectors`: the class tokens."""
        return self.embed(items)[:, 0]

    def focus(self, tokens: Float[Tensor, "b n d"], level: float) -> Float[Tensor, "b n d"]:
        """Moves context tokens towards semantics (0) or style (1); class tokens stay. See `adjust_focus`."""
        length = next((n for n in self.context_lengths if tokens.shape[1] % n == 0), tokens.shape[1])
        images = tokens.reshape(-1, length, tokens.shape[-1])
        classes, patches = images[:, : length - self._patches], images[:, length - self._patches :]
        return torch.cat([classes, adjust_focus(patches, level)], dim=1).reshape(tokens.shape)

    def unconditional(self, output: str) -> Float[Tensor, "1 n d"]:
        """Returns zeros when images are made, a black image's context otherwise (an official quirk)."""
        encoder = self._context_encoder()
        if output == self.name:
            return torch.zeros(1, 1 + encoder.grid**2, encoder.dim, device=self.device, dtype=self.dtype)
        return self.embed([torch.zeros(3, encoder.image_size, encoder.image_size)])

    def present(self, items: Sequence[Float[Tensor, "3 h w"]], output_type: str) -> Presented:
        """See `images.present`."""
        return present(items, output_type)

    @property
    def _patches(self) -> int:
        return self._context_encoder().grid ** 2

    def _autoencoder(self) -> AutoencoderKL:
        return loaded(self.autoencoder, "image autoencoder", "that makes images")

    def _context_encoder(self) -> ClipImageEncoder:
        return loaded(self.context_encoder, "image context encoder", "from images")


def aspect_buckets(size: int, step: int, widest: float = 2.0) -> list[tuple[int, int]]:
    """Returns the heights and widths of images that are trained: a square, and others of at most its area.

    Args:
        size: pixels of a side of the square.
        step: pixels that all sides are a multiple of.
        widest: the longer side of an image by the shorter.
    """
    area, sides = size * size, range(step, int(size * widest) + 1, step)
    pairs = [(side, max(int(area / side) // step * step, step)) for side in sides]
    return [(height, width) for height, width in pairs if max(height, width) <= widest * min(height, width)]


def clip_pixels(image: Float[Tensor, "3 h w"], size: int) -> Float[Tensor, "3 size size"]:
    """Returns what CLIP is given: what it sees of an image, normalised."""
    return normalize_for_clip(clip_view(image, size))


def clip_view(image: Float[Tensor, "3 h w"], size: int) -> Float[Tensor, "3 size size"]:
    """Returns what CLIP sees of an image: the central square, resized by PIL on 8-bit levels as in training."""
    height, width = image.shape[-2:]
    shorter = min(height, width)
    shown = to_pil(_center(image, min(height, _LONGEST * shorter), min(width, _LONGEST * shorter)))
    scaled = [size if side == shorter else int(size * side / shorter) for side in shown.size]
    shown = shown.resize((scaled[0], scaled[1]), Image.Resampling.BICUBIC)
    left, top = ((side - size) // 2 for side in scaled)
    levels = np.array(shown.crop((left, top, left + size, top + size)))
    return torch.as_tensor(levels).permute(2, 0, 1) / 255


def normalize_for_clip(images: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 3 h w"]:
    """Returns images in [0, 1] with the mean and standard deviation that CLIP expects."""
    mean, std = (
        torch.tensor(values, device=images.device)[:, None, None] for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
    )
    return (images - mean) / std


def token_weights(mask: object, image: Float[Tensor, "3 h w"], size: int, grid: int) -> Float[Tensor, " n"]:
    """Returns the weights of the class token and of each patch: the shares of their areas that the mask keeps.

    As in the official code, the mask is first brought to CLIP's `size` in pixels, without smoothing.
    """
    if mask is None:
        return torch.ones(1 + grid**2)
    values = read_mask(mask)
    if values.shape != image.shape[-2:]:
        warnings.warn(
            f"The mask is {_size(values)}, its picture {_size(image)} pixels: it was stretched over the picture.",
            UserWarning,
            stacklevel=4,
        )
    shorter = min(image.shape[-2:])
    height, width = (
        max(round(of_mask * shorter / side), 1) for of_mask, side in zip(values.shape, image.shape[-2:], strict=True)
    )
    square = _center(values, height, width)
    if not square.any():
        raise ValueError("The mask keeps nothing of the central square of the picture, all that CLIP sees: crop first.")
    resized = interpolate(square[None, None], (size, size), mode="bilinear")
    return torch.cat([resized.mean()[None], avg_pool2d(resized, size // grid).flatten()])


def _size(values: Float[Tensor, "*c h w"]) -> str:
    return f"{values.shape[-1]} × {values.shape[-2]}"


def _channels_last(values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The same values laid out as convolutions are quickest, and as they keep them."""
    return values.contiguous(memory_format=torch.channels_last)


def _center(values: Float[Tensor, "*c h w"], height: int, width: int) -> Float[Tensor, "*c height width"]:
    top, left = (values.shape[-2] - height) // 2, (values.shape[-1] - width) // 2
    return values[..., top : top + height, left : left + width]
