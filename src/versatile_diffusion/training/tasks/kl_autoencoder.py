"""The image autoencoder learns to give pictures back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Generator, Tensor
from torch.nn.functional import l1_loss, normalize

from versatile_diffusion.training.preview import PREVIEWED, side_by_side
from versatile_diffusion.training.task import Batch, Pass, Task
from versatile_diffusion.worlds.postcards.attribute_classifier import Oracle
from versatile_diffusion.worlds.postcards.classifier_task import to_pictures


class KLAutoencoderTask(Task[AutoencoderKL]):
    """Absolute error, distance of features, and a little KL divergence.

    The features are those of a classifier of its own, not of the oracle that measures: as LPIPS for photographs, they
    tell the autoencoder what matters in a picture.

    Args:
        autoencoder: to train.
        critic: a trained classifier, frozen here.
        images: uint8 (n h w 3).
        feature_weight: weight of the distance of features.
        kl_weight: weight of the KL divergence, per number of the latent.
    """

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        critic: Oracle,
        images: UInt8[ndarray, "n h w 3"],
        feature_weight: float = 0.5,
        kl_weight: float = 1e-4,
    ) -> None:
        self.model, self.critic, self.images = autoencoder, critic.requires_grad_(False).eval(), images
        self.feature_weight, self.kl_weight = feature_weight, kl_weight
        channels, factor = (
            autoencoder.config["latent_channels"],
            2 ** (len(autoencoder.config["block_out_channels"]) - 1),
        )
        self.latent_shape = (channels, images.shape[1] // factor, images.shape[2] // factor)

    def draw(self, generator: Generator, size: int) -> Batch:
        """See `Task.draw`."""
        index = torch.randint(len(self.images), (size,), generator=generator)
        return {
            "images": torch.from_numpy(self.images[index.numpy()]),
            "noise": torch.randn(size, *self.latent_shape, generator=generator),
        }

    def passes(self, batch: Batch) -> Iterator[Pass]:
        """See `Task.passes`."""

        def reconstruct() -> dict[str, Tensor]:
            images = to_pictures(batch["images"]).contiguous(memory_format=torch.channels_last)
            posterior = self._posterior(self.model, images)
            decoded = self._decode(self.model, posterior.mean + posterior.std * batch["noise"])
            return {
                "error": l1_loss(decoded, images),
                "features": self.feature_weight * self._feature_distance(decoded, images),
                "kl": self.kl_weight * posterior.kl().mean() / batch["noise"][0].numel(),
            }

        yield reconstruct

    def preview(self, model: AutoencoderKL) -> Mapping[str, Tensor | str]:
        """See `Task.preview`: the first pictures, and below them their reconstructions."""
        images = to_pictures(torch.tensor(self.images[:PREVIEWED])).to(model.device)
        decoded = self._decode(model, self._posterior(model, images).mean)
        return {"pictures": side_by_side(list(images), list(decoded.clamp(0, 1)))}

    @staticmethod
    def _posterior(model: Any, images: Float[Tensor, "b 3 h w"]) -> DiagonalGaussianDistribution:
        return model.encode(images * 2 - 1, return_dict=False)[0]

    @staticmethod
    def _decode(model: Any, latents: Float[Tensor, "b c y x"]) -> Float[Tensor, "b 3 h w"]:
        return (model.decode(latents, return_dict=False)[0] + 1) / 2

    def _feature_distance(self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
        critic: Any = self.critic
        critic.to(a.device)
        pairs = zip(critic.features(a), critic.features(b), strict=True)
        return torch.stack([(normalize(x) - normalize(y)).square().sum(1).mean() for x, y in pairs]).mean()
