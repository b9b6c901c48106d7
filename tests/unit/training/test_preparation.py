import pytest
import torch

from versatile_diffusion.modalities.clip import ClipImageEncoder
from versatile_diffusion.modalities.image_autoencoder import image_autoencoder
from versatile_diffusion.model_presets import clip_vision, kl_autoencoder
from versatile_diffusion.training.stages.preparation import even_channels, spread_positions


@pytest.mark.parametrize("patch_size", [1, 4])
def test_even_channels_leave_reconstructions_as_they_are(patch_size: int) -> None:
    torch.manual_seed(0)
    config = kl_autoencoder(channels=(8, 16), layers=1, size=32, groups=4, patch_size=patch_size)
    autoencoder = image_autoencoder(config).eval().requires_grad_(False)
    images = torch.rand(6, 3, 32, 32) * 2 - 1
    before = autoencoder.encode(images, return_dict=False)[0]
    made = autoencoder(images).sample
    even_channels(autoencoder, before.mean)
    after = autoencoder.encode(images, return_dict=False)[0]
    torch.testing.assert_close(after.mean.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(after.mean.std((0, 2, 3)), torch.ones(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(after.std, before.std / before.mean.std((0, 2, 3))[:, None, None], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(autoencoder(images).sample, made, atol=1e-4, rtol=0)


def test_an_autoencoder_without_the_convolutions_is_refused() -> None:
    config = kl_autoencoder(channels=(8, 16), layers=1, size=32, groups=4)
    autoencoder = image_autoencoder({**config, "use_quant_conv": False})
    with pytest.raises(ValueError, match="which this autoencoder lacks"):
        even_channels(autoencoder, torch.rand(1, 4, 16, 16))


def test_tokens_tell_their_places_where_position_embeddings_begin_large() -> None:
    torch.manual_seed(0)
    encoder = ClipImageEncoder(clip_vision(width=32, layers=2, size=32, patch=8, projection=32, heads=2)).eval()
    images = torch.randn(64, 3, 32, 32)

    def share_of_places() -> float:
        tokens = encoder(images)[:, 1:].detach()
        return float(tokens.mean(0).var(0).mean() / tokens.flatten(0, 1).var(0).mean())

    assert share_of_places() < 0.05
    spread_positions(encoder, 50.0)
    assert share_of_places() > 0.3
