"""How modules and data are prepared for a stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from versatile_diffusion.modalities import Modality
from versatile_diffusion.modalities.clip import ClipImageEncoder

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


def unit_scale(modality: Modality, items: Sequence[Any]) -> float:
    """Returns the factor that gives the latents of the items, which are data of the modality, unit variance."""
    return float(modality.config["scaling_factor"] / modality.encode(items).std())


@torch.no_grad()
def even_channels(autoencoder: AutoencoderKL, latents: Float[Tensor, "b c y x"]) -> None:
    """Gives each channel of the latents no mean and unit variance, in place; reconstructions stay the same.

    The two pointwise convolutions beside the latent take it up, so that nothing else must know of it.

    Args:
        autoencoder: with these convolutions, as it has them by default.
        latents: of many images, as the autoencoder makes them.

    Raises:
        ValueError: if the autoencoder lacks them.
    """
    inward, outward = autoencoder.quant_conv, autoencoder.post_quant_conv
    if inward is None or outward is None or inward.bias is None or outward.bias is None:
        raise ValueError("Channels are evened in the convolutions beside the latent, which this autoencoder lacks.")
    count = latents.shape[1]
    mean, std = latents.float().mean((0, 2, 3)), latents.float().std((0, 2, 3))
    inward.weight[:count] /= std[:, None, None, None]
    inward.bias[:count] = (inward.bias[:count] - mean) / std
    inward.bias[count:] -= 2 * std.log()  # the logarithms of variances
    outward.bias += outward.weight[:, :, 0, 0] @ mean
    outward.weight *= std[:, None, None]


@torch.no_grad()
def spread_positions(encoder: ClipImageEncoder, factor: float) -> None:
    """Multiplies the position embeddings of an image encoder that has learnt nothing, in place.

    CLIP begins them about fifty times smaller than what it sees of a patch. Comparing images with texts hardly makes
    them grow in a small model, and then no token tells where in the image it stands: a diffuser that attends to the
    tokens learns what there is, but not where.
    """
    encoder.model.vision_model.embeddings.position_embedding.weight *= factor


def seeded(seed: int, make: Callable[[], T]) -> T:
    """Returns what `make` makes where PyTorch draws from this seed, and leaves PyTorch's own generator as it was."""
    with torch.random.fork_rng():  # pyright: ignore[reportUnknownMemberType] - torch leaves parameters untyped
        torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType] - torch leaves a parameter untyped
        return make()


def learnt_schedule(
    scheduler: SchedulerMixin, prediction_type: str | None = None, zero_snr: bool = False
) -> DDIMScheduler:
    """Returns a DDIM scheduler of the same noise schedule, for a diffuser that predicts what is said.

    Args:
        scheduler: of the model before training.
        prediction_type: one of PREDICTION_TYPES, or None for that of `scheduler`.
        zero_snr: whether the last of the steps that are learnt shall be nothing but noise, where sampling begins
            (arXiv 2305.08891). Otherwise the schedule stays as it is.
    """
    changes: dict[str, object] = {} if prediction_type is None else {"prediction_type": prediction_type}
    if zero_snr:
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    config: object = getattr(scheduler, "config", None)  # which SchedulerMixin does not declare
    made: object = DDIMScheduler.from_config(config, **changes)  # pyright: ignore - untyped in part in diffusers
    assert isinstance(made, DDIMScheduler)
    return made


def by_image(rows: Shaped[Tensor, "rows ..."], count: int) -> Shaped[Tensor, "images count ..."]:
    """Returns rows of texts, of which each image has so many, by image."""
    return rows.reshape(len(rows) // count, count, *rows.shape[1:])


def channels_last(module: M) -> M:
    """Lays a module's convolutions out as they compute quickest, in place, and returns it."""
    nn.Module.to(module, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - torch has no overload for it alone
    return module
