"""The autoencoder of spectrograms learns to give them back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float, Float16
from numpy import ndarray
from torch import Generator, Tensor
from torch.nn.functional import l1_loss

from versatile_diffusion.training.loop.preview import PREVIEWED, side_by_side
from versatile_diffusion.training.loop.task import Batch, Pass, Task
from versatile_diffusion.training.tasks.kl_autoencoder import edge_error, maps_of, posterior_of

_QUIETEST, _LOUDEST = -11.5, 2.0
"""The logarithms of magnitudes that previews show as black and as white."""


class MelAutoencoderTask(Task[AutoencoderKL]):
    """Absolute errors of the logarithms of magnitudes and of their slopes in time and pitch, and a little KL.

    Where sounds have two channels, these are changed over in half of them.

    Args:
        autoencoder: to train; see `MelAutoencoder`.
        mels: of all sounds, as `MelAutoencoder.log_mels` returns them.
        kl_weight: weight of the KL divergence, per number of the latent.
        edge_weight: weight of the absolute error of the differences between neighbours; 0 leaves it out.
    """

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        mels: Float16[ndarray, "n channels frames bands"],
        kl_weight: float = 1e-3,
        edge_weight: float = 1.0,
    ) -> None:
        self.model, self.mels = autoencoder, mels
        self.kl_weight, self.edge_weight = kl_weight, edge_weight
        factor = 2 ** (len(autoencoder.config["block_out_channels"]) - 1)
        frames, bands = mels.shape[2:]
        self.latent_shape = (autoencoder.config["latent_channels"], frames // factor, bands // factor)

    def draw(self, generator: Generator, size: int) -> Batch:
        """See `Task.draw`."""
        index = torch.randint(len(self.mels), (size,), generator=generator)
        mels = torch.as_tensor(self.mels[index.numpy()])
        changed = torch.rand(size, 1, 1, 1, generator=generator) < 0.5
        return {
            "mels": torch.where(changed, mels.flip(1), mels),
            "noise": torch.randn(size, *self.latent_shape, generator=generator),
        }

    def passes(self, batch: Batch) -> Iterator[Pass]:
        """See `Task.passes`."""

        def reconstruct() -> dict[str, Tensor]:
            mels = batch["mels"].float().contiguous(memory_format=torch.channels_last)
            posterior = posterior_of(self.model, mels)
            decoded = maps_of(self.model, posterior.mean + posterior.std * batch["noise"])
            losses = {"error": l1_loss(decoded, mels)}
            if self.edge_weight:
                losses["edges"] = self.edge_weight * edge_error(decoded, mels)
            losses["kl"] = self.kl_weight * posterior.kl().mean() / batch["noise"][0].numel()
            return losses

        yield reconstruct

    def preview(self, model: AutoencoderKL) -> Mapping[str, Tensor | str]:
        """See `Task.preview`: the first spectrograms, low tones at the bottom, and below them what comes back."""
        mels = torch.as_tensor(self.mels[:PREVIEWED]).float().to(model.device)
        decoded = maps_of(model, posterior_of(model, mels).mean)
        return {"spectrograms": side_by_side(as_images(mels), as_images(decoded))}


def as_images(mels: Float[Tensor, "n channels frames bands"]) -> list[Float[Tensor, "3 bands frames"]]:
    """Returns the first channels of spectrograms as grey images in [0, 1]."""
    brightness = ((mels[:, 0] - _QUIETEST) / (_LOUDEST - _QUIETEST)).clamp(0, 1)
    return list(brightness.transpose(1, 2).flip(1)[:, None].expand(-1, 3, -1, -1))
