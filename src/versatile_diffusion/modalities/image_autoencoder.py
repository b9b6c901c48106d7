"""The autoencoder of images: diffusers' AutoencoderKL, or one that sees patches of pixels as single positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers.configuration_utils import register_to_config  # pyright: ignore[reportUnknownVariableType] - untyped
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from versatile_diffusion.modalities.image_spec import pixels_per_position


class PatchAutoencoderKL(AutoencoderKL):
    """AutoencoderKL that an image enters, and leaves, as patches: every `patch_size`² pixels are channels of one.

    A small network so spends its work at a coarse resolution: an image of 128 × 128 costs what one of 32 × 32 does, and
    its latent is smaller by `patch_size` in height and width.

    Args:
        patch_size: height and width of a patch in pixels.
        down_block_types, up_block_types, block_out_channels, layers_per_block, act_fn, latent_channels,
            norm_num_groups: see AutoencoderKL.
        sample_size: height and width of the images of training, in pixels.
    """

    @register_to_config
    def __init__(
        self,
        patch_size: int,
        down_block_types: Sequence[str] = ("DownEncoderBlock2D",),
        up_block_types: Sequence[str] = ("UpDecoderBlock2D",),
        block_out_channels: Sequence[int] = (64,),
        layers_per_block: int = 1,
        act_fn: str = "silu",
        latent_channels: int = 4,
        norm_num_groups: int = 32,
        sample_size: int = 32,
    ) -> None:
        options: dict[str, Any] = {  # diffusers asks for tuples of one element
            "down_block_types": down_block_types,
            "up_block_types": up_block_types,
            "block_out_channels": block_out_channels,
        }
        super().__init__(
            in_channels=3 * patch_size**2,
            out_channels=3 * patch_size**2,
            layers_per_block=layers_per_block,
            act_fn=act_fn,
            latent_channels=latent_channels,
            norm_num_groups=norm_num_groups,
            sample_size=sample_size,
            **options,
        )
        self.patch_size = patch_size
        self.tile_sample_min_size = sample_size // patch_size  # of what diffusers' tiling sees
        self.tile_latent_min_size = sample_size // pixels_per_position(self.config)

    def encode(
        self, x: Float[Tensor, "b 3 h w"], return_dict: bool = True
    ) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """See `AutoencoderKL.encode`."""
        return super().encode(pixel_unshuffle(x, self.patch_size), return_dict)  # pyright: ignore[reportUnknownMemberType] - diffusers leaves it untyped

    def decode(  # pyright: ignore[reportIncompatibleMethodOverride] - diffusers names another class of tensors
        self, z: Float[Tensor, "b c y x"], return_dict: bool = True, generator: object = None
    ) -> DecoderOutput | tuple[Tensor]:
        """See `AutoencoderKL.decode`."""
        patches = super().decode(z)  # pyright: ignore[reportArgumentType, reportUnknownMemberType] - as above
        assert isinstance(patches, DecoderOutput)
        images = pixel_shuffle(patches.sample, self.patch_size)
        return DecoderOutput(sample=images) if return_dict else (images,)


def image_autoencoder(config: Mapping[str, Any]) -> AutoencoderKL:
    """Returns the autoencoder of these arguments: a `PatchAutoencoderKL` where they tell a `patch_size`."""
    return PatchAutoencoderKL(**config) if "patch_size" in config else AutoencoderKL(**config)
