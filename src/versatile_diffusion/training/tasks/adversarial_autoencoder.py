"""The image autoencoder learns the last of its sharpness from a discriminator of patches (PatchGAN, arXiv 1611.07004).

It comes late and weighs little, as in arXiv 2012.09841: from early on it leads to halos and worse colours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.func import functional_call

from versatile_diffusion.training.loop.task import Batch, Pass, Task
from versatile_diffusion.training.tasks.data import to_floats
from versatile_diffusion.training.tasks.kl_autoencoder import KLAutoencoderTask


class PatchDiscriminator(nn.Module):
    """Tells for each patch of an image whether it is an original or comes from the autoencoder.

    Args:
        widths: channels after each halving of the image.
        groups: of the group norms, by which every width must be divisible.
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 96), groups: int = 8) -> None:
        super().__init__()
        first, *rest = widths
        layers: list[nn.Module] = [nn.Conv2d(3, first, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for inner, outer in zip(widths, rest, strict=False):
            layers += [
                nn.Conv2d(inner, outer, 4, stride=2, padding=1, bias=False),
                nn.GroupNorm(groups, outer),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 _ _"]:
        """Returns a score of each patch of images in [0, 1]: above 0 for originals."""
        return self.layers(images * 2 - 1)


class AutoencoderWithDiscriminator(nn.Module):
    """An autoencoder of images, and for training alone a discriminator of what comes out of it."""

    def __init__(self, autoencoder: AutoencoderKL, discriminator: PatchDiscriminator) -> None:
        super().__init__()
        self.autoencoder, self.discriminator = autoencoder, discriminator


class AdversarialAutoencoderTask(Task[AutoencoderWithDiscriminator]):
    """The errors of `KLAutoencoderTask`, and what a discriminator says of the reconstructions.

    The discriminator learns at the same time, by the hinge loss, from the same reconstructions.

    Args:
        model: to train.
        errors: the task of the autoencoder without a discriminator. Its model must be the autoencoder of `model`.
        adversarial_weight: of what the discriminator says.
    """

    def __init__(
        self, model: AutoencoderWithDiscriminator, errors: KLAutoencoderTask, adversarial_weight: float = 0.05
    ) -> None:
        if errors.model is not model.autoencoder:
            raise ValueError("The errors are those of another autoencoder than the one that is to be trained.")
        self.model, self.errors, self.adversarial_weight = model, errors, adversarial_weight

    def draw(self, generator: Generator, size: int) -> Batch:
        """See `Task.draw`."""
        return self.errors.draw(generator, size)

    def passes(self, batch: Batch) -> Iterator[Pass]:
        """See `Task.passes`. One pass, as both networks learn from the same reconstructions."""

        def reconstruct() -> dict[str, Tensor]:
            losses, decoded = self.errors.losses(batch)
            discriminator = self.model.discriminator
            frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
            fooled: Tensor = functional_call(discriminator, frozen, (decoded,))
            real, made = discriminator(to_floats(batch["images"])), discriminator(decoded.detach())
            told = (1 - real).relu().mean() + (1 + made).relu().mean()
            return {**losses, "adversarial": -self.adversarial_weight * fooled.mean(), "discriminator": 0.5 * told}

        yield reconstruct

    def preview(self, model: AutoencoderWithDiscriminator) -> Mapping[str, Tensor | str]:
        """See `Task.preview`."""
        return self.errors.preview(model.autoencoder)
