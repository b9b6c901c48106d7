from collections.abc import Iterator

import pytest
import torch

from tests.parity import golden
from versatile_diffusion.checkpoints.encoder_keys import kl_autoencoder
from versatile_diffusion.checkpoints.keys import to_ours
from versatile_diffusion.kernels import linear, packing, winograd
from versatile_diffusion.modalities.image import ImageModality


@pytest.fixture(scope="module")
def pair() -> golden.Golden:
    return golden.read("kl_autoencoder")


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "packed"])
def image(request: pytest.FixtureRequest, pair: golden.Golden) -> Iterator[ImageModality]:
    """Also with weights of any size laid out, and pictures of any size by Winograd's algorithm."""
    config = pair.config["config"]
    levels = len(config["ch_mult"])
    channels = [config["ch"] * mult for mult in config["ch_mult"]]
    modality = ImageModality(
        autoencoder={
            "in_channels": config["in_channels"],
            "out_channels": config["out_ch"],
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            "block_out_channels": channels,
            "layers_per_block": config["num_res_blocks"],
            "latent_channels": config["embed_dim"],
            "sample_size": config["resolution"],
        }
    ).eval()
    assert modality.autoencoder is not None
    modality.autoencoder.load_state_dict(to_ours(kl_autoencoder(channels, config["num_res_blocks"]), pair.weights()))
    with pytest.MonkeyPatch.context() as patch:
        for module in (linear, packing):
            patch.setattr(module, "LARGE", 0)
        patch.setattr(winograd, "MANY", 0)
        if request.param:
            packing.pack(modality.autoencoder)
            assert any(isinstance(layer, packing.WinogradConv2d) for layer in modality.autoencoder.modules())
        yield modality


def test_golden_posterior(pair: golden.Golden, image: ImageModality) -> None:
    assert image.autoencoder is not None
    with torch.no_grad():
        posterior = image.autoencoder.encode(2 * pair.tensors["image"] - 1, return_dict=False)[0]
    assert golden.relative_error(posterior.mean, pair.tensors["mean"]) < 1e-4
    assert golden.relative_error(posterior.logvar, pair.tensors["logvar"]) < 1e-4


def test_golden_latents_are_scaled_means(pair: golden.Golden, image: ImageModality) -> None:
    latents = image.encode(image.read(pair.tensors["image"]))
    assert golden.relative_error(latents / image.config["scaling_factor"], pair.tensors["mean"]) < 1e-4


def test_golden_decoded_pictures(pair: golden.Golden, image: ImageModality) -> None:
    pictures = image.decode(pair.tensors["z"] * image.config["scaling_factor"])
    assert golden.relative_error(torch.stack(pictures), pair.tensors["decoded"]) < 1e-4
