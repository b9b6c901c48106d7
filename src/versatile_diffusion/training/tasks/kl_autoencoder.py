"""The image autoencoder learns to give images back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Generator, Tensor, nn
from torch.nn.functional import l1_loss, normalize

from versatile_diffusion.modalities.image_spec import pixels_per_position
from versatile_diffusion.training.loop.preview import PREVIEWED, side_by_side
from versatile_diffusion.training.loop.task import Batch, Pass, Task
from versatile_diffusion.training.tasks.data import to_floats


class PerceptualNetwork(nn.Module, ABC):
    """A trained network whose features tell what matters in an image, as LPIPS does for photographs."""

    @abstractmethod
    def features(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c _ _"]]:
        """Returns features of images in [0, 1], from fine to coarse."""


class KLAutoencoderTask(Task[AutoencoderKL]):
    """Absolute errors of pixels and edges, distance of features if there is a perceptual network, and a little KL.

    Args:
        autoencoder: to train.
        images: all images.
        perceptual_network: gives the features, frozen here. It must be another than the one that measures.
        feature_weight: weight of the distance of features.
        kl_weight: weight of the KL divergence, per number of the latent; 0 leaves it out.
        edge_weight: weight of the absolute error of the differences between neighbouring pixels; 0 leaves it out.
    """

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        images: UInt8[ndarray, "n h w 3"],
        perceptual_network: PerceptualNetwork | None = None,
        feature_weight: float = 0.5,
        kl_weight: float = 1e-4,
        edge_weight: float = 0.0,
    ) -> None:
        self.model, self.images, self.perceptual_network = autoencoder, images, perceptual_network
        if perceptual_network is not None:
            perceptual_network.requires_grad_(False).eval()
        self.feature_weight, self.kl_weight, self.edge_weight = feature_weight, kl_weight, edge_weight
        factor = pixels_per_position(autoencoder.config)
        height, width = images.shape[1:3]
        self.latent_shape = (autoencoder.config["latent_channels"], height // factor, width // factor)

    def draw(self, generator: Generator, size: int) -> Batch:
        """See `Task.draw`."""
        index = torch.randint(len(self.images), (size,), generator=generator)
        return {
            "images": torch.as_tensor(self.images[index.numpy()]),
            "noise": torch.randn(size, *self.latent_shape, generator=generator),
        }

    def passes(self, batch: Batch) -> Iterator[Pass]:
        """See `Task.passes`."""

        yield lambda: self.losses(batch)[0]

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], Float[Tensor, "b 3 h w"]]:
        """Returns the losses of a batch, and its reconstructions."""
        images = to_floats(batch["images"]).contiguous(memory_format=torch.channels_last)
        posterior = posterior_of(self.model, images * 2 - 1)
        decoded = _decoded(self.model, posterior.mean + posterior.std * batch["noise"])
        losses = {"error": l1_loss(decoded, images)}
        if self.edge_weight:
            losses["edges"] = self.edge_weight * edge_error(decoded, images)
        if self.perceptual_network is not None:
            distance = _feature_distance(self.perceptual_network.to(images.device), decoded, images)
            losses["features"] = self.feature_weight * distance
        if self.kl_weight:
            losses["kl"] = self.kl_weight * posterior.kl().mean() / batch["noise"][0].numel()
        return losses, decoded

    def preview(self, model: AutoencoderKL) -> Mapping[str, Tensor | str]:
        """See `Task.preview`: the first images, and below them their reconstructions."""
        images = to_floats(torch.tensor(self.images[:PREVIEWED])).to(model.device)
        decoded = _decoded(model, posterior_of(model, images * 2 - 1).mean)
        return {"pictures": side_by_side(list(images), list(decoded.clamp(0, 1)))}


def edge_error(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Returns the mean absolute difference of the slopes of two images, to the right and downwards."""
    return torch.stack([l1_loss(a.diff(dim=dim), b.diff(dim=dim)) for dim in (2, 3)]).mean()


def posterior_of(model: AutoencoderKL, maps: Float[Tensor, "b c h w"]) -> DiagonalGaussianDistribution:
    """Returns what an autoencoder makes of maps: images in [-1, 1], or spectrograms."""
    encoded = model.encode(maps)
    assert isinstance(encoded, AutoencoderKLOutput)
    posterior: object = encoded.latent_dist  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - diffusers leaves parameters untyped
    assert isinstance(posterior, DiagonalGaussianDistribution)
    return posterior


def maps_of(model: AutoencoderKL, latents: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k h w"]:
    """Returns the maps that latents stand for."""
    decoded = model.decode(latents)  # pyright: ignore[reportArgumentType, reportUnknownMemberType] - diffusers names another class of tensors
    assert isinstance(decoded, DecoderOutput)
    return decoded.sample


def _decoded(model: AutoencoderKL, latents: Float[Tensor, "b c y x"]) -> Float[Tensor, "b 3 h w"]:
    return (maps_of(model, latents) + 1) / 2


def _feature_distance(
    network: PerceptualNetwork, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]
) -> Float[Tensor, ""]:
    pairs = zip(network.features(a), network.features(b), strict=True)
    return torch.stack([(normalize(x) - normalize(y)).square().sum(1).mean() for x, y in pairs]).mean()
