"""Global layers: always on, whatever the flow. They turn the timestep into an embedding."""

from __future__ import annotations

from diffusers.models.embeddings import get_timestep_embedding
from jaxtyping import Float, Int
from torch import Tensor, nn

from versatile_diffusion.diffuser.plan import DiffuserConfig


class GlobalLayers(nn.Module):
    """Sinusoidal timestep embedding followed by a two-layer perceptron."""

    def __init__(self, config: DiffuserConfig) -> None:
        super().__init__()
        self.frequencies = config.model_channels
        self.linear_in = nn.Linear(config.model_channels, config.time_channels)
        self.linear_out = nn.Linear(config.time_channels, config.time_channels)

    def forward(self, timesteps: Int[Tensor, "b"] | Float[Tensor, "b"]) -> Float[Tensor, "b time"]:
        # Cosines first, as in the latent diffusion code that the official network inherits from.
        embedding = get_timestep_embedding(timesteps, self.frequencies, flip_sin_to_cos=True, downscale_freq_shift=0)
        hidden = self.linear_in(embedding.to(self.linear_in.weight.dtype))
        return self.linear_out(nn.functional.silu(hidden))
