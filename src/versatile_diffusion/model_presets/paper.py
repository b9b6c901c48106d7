"""The sizes of the paper's model, of its baseline, and of the smallest one that has everything."""

from __future__ import annotations

from versatile_diffusion.diffuser import DiffuserConfig
from versatile_diffusion.model_presets.configs import clip_text, clip_vision, kl_autoencoder, optimus
from versatile_diffusion.model_presets.sizes import ImagePreset, Preset, TextPreset


def vd_four_flow() -> Preset:
    """Returns the official model (paper, section 4): 2,566,318,852 parameters in the diffuser."""
    return Preset(
        DiffuserConfig(),
        {
            "image": ImagePreset(
                kl_autoencoder(channels=(128, 256, 512, 512), layers=2, size=512),
                clip_vision(width=1024, layers=24, size=224, patch=14, projection=768),
            ),
            "text": TextPreset(
                optimus(width=768, layers=12, pieces=28996, tokens=50260, latent=768, positions=(512, 1024)),
                clip_text(width=768, layers=12, tokens=49408, positions=77, projection=768),
            ),
        },
    )


def stable_diffusion_v1() -> Preset:
    """Stable Diffusion v1: the paper's baseline, and where its training starts. Text to image only."""
    full = vd_four_flow()
    return Preset(
        full.diffuser,
        {
            "image": ImagePreset(full.image.autoencoder, context_encoder=None),
            "text": TextPreset(autoencoder=None, context_encoder=full.text.context_encoder, projected=False),
        },
    )


def tiny() -> Preset:
    """Returns the smallest model that has everything, for tests: images of 32×32."""
    return Preset(
        DiffuserConfig(32, (1, 2), (1, 1), (True, False), num_heads=4),
        {
            "image": ImagePreset(
                kl_autoencoder(channels=(32, 32), layers=1, size=32),
                clip_vision(width=32, layers=1, size=28, patch=14, projection=24, heads=4),
            ),
            "text": TextPreset(
                optimus(width=32, layers=2, pieces=99, tokens=99, latent=48, positions=(96, 48), heads=4),
                clip_text(width=32, layers=1, tokens=99, positions=16, projection=24, heads=4),
                latent_dim=48,
            ),
        },
    )
