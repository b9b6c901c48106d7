"""Guided steps of the large diffuser, against diffusers' networks with the same weights.

The peers are `UNet2DConditionModel` for images and, for texts, `UNetFlatConditionModel`: the official text network as
diffusers keeps it, 1×1 convolutions on vectors included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from accelerate import init_empty_weights  # pyright: ignore[reportMissingTypeStubs] - there are none
from torch import Generator, Tensor, nn

from versatile_diffusion.bench.report import Figure, Result, Settings
from versatile_diffusion.bench.timing import alternate, ratios, seconds
from versatile_diffusion.checkpoints.diffuser_layouts import diffusers_unet
from versatile_diffusion.checkpoints.keys import to_ours
from versatile_diffusion.devices import choose_device, choose_dtype
from versatile_diffusion.diffuser import ContextTokens, Diffuser
from versatile_diffusion.flows import Flow
from versatile_diffusion.kernels import optimize
from versatile_diffusion.model_presets import Preset, build

_TOKENS, _TEXT_STEPS = 77, 5
_IMAGE_AT_LEAST = {torch.float32: 1.15, torch.bfloat16: 1.3}
_TEXT_AT_LEAST, _MIXTURE_AT_MOST = 3.0, 1.55
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""The largest relative error of the whole output that is taken for rounding, by what is computed in."""

Work = Callable[[int], Tensor]


def measure(settings: Settings) -> Result:
    """Times steps of both networks on the device that `vd` would take.

    Raises:
        RuntimeError: If ours and a peer do not predict the same noise.
    """
    device = choose_device()
    dtype = choose_dtype(settings.dtype, device)
    how = {
        "device": str(device),
        "dtype": str(dtype),
        "pixels": settings.sizes.image.autoencoder["sample_size"],
        "tokens": _TOKENS,
    }
    with torch.inference_mode():
        figures = [*_image(settings, device, dtype), *_text(settings, device, dtype)]
    return Result("Guided steps of the diffuser", figures, how)


def _image(settings: Settings, device: torch.device, dtype: torch.dtype) -> Iterator[Figure]:
    """Times one step of an image, and of an image from two contexts."""
    preset = settings.sizes
    peer = random_peer(preset, "image").to(device, dtype)
    ours = converted(peer, preset, "image", ["text", "image"])
    optimize(ours)

    def step(number: int, contexts: int = 1) -> Tensor:
        latents, timesteps, tokens = image_inputs(preset, number, device, dtype)
        return ours(latents, timesteps, "image", [ContextTokens(name, tokens) for name in ("text", "image")[:contexts]])

    def theirs(number: int) -> Tensor:
        latents, timesteps, tokens = image_inputs(preset, number, device, dtype)
        return peer(latents.repeat(2, 1, 1, 1), timesteps.repeat(2), tokens).sample

    yield from _compared("image", step, theirs, settings.rounds, _IMAGE_AT_LEAST.get(dtype))
    works: dict[str, Work] = {"one": step, "two": lambda number: step(number, 2)}
    step(0, 2)
    found = alternate(works, settings.rounds)
    yield Figure("image: two contexts / one", "×", ratios(found["one"], found["two"]), at_most=_MIXTURE_AT_MOST)


def _text(settings: Settings, device: torch.device, dtype: torch.dtype) -> Iterator[Figure]:
    """Times some steps of a text, and of four texts at once."""
    preset = settings.sizes
    peer = random_peer(preset, "text").to(device, dtype)
    ours = converted(peer, preset, "text", ["text"])
    optimize(ours)
    dim, latent = preset.text.context_encoder["projection_dim"], preset.text.latent_dim

    for batch in (1, 4):

        def steps(number: int, batch: int = batch) -> Tensor:
            latents, tokens = _inputs(number, batch, (latent,), dim, device, dtype)
            contexts = ours.prepare([ContextTokens("text", tokens)])  # once for all steps, as in sampling
            times = [_timesteps(number + i, batch, device) for i in range(_TEXT_STEPS)]
            return torch.cat([ours(latents, time, "text", contexts) for time in times])

        def theirs(number: int, batch: int = batch) -> Tensor:
            latents, tokens = _inputs(number, batch, (latent,), dim, device, dtype)
            both = latents.repeat(2, 1)[..., None, None]
            times = [_timesteps(number + i, 2 * batch, device) for i in range(_TEXT_STEPS)]
            return torch.cat([peer(both, time, tokens).sample.flatten(1) for time in times])

        name = f"text, batch {batch}, {_TEXT_STEPS} steps"
        yield from _compared(name, steps, theirs, settings.rounds, _TEXT_AT_LEAST)


def _compared(name: str, ours: Work, peer: Work, rounds: int, at_least: float | None) -> Iterator[Figure]:
    """Times both, and tells how many times faster ours is. Every round has new inputs, and outputs must be equal."""
    works = {f"{name}: ours": ours, f"{name}: diffusers": peer}
    for work in works.values():
        work(rounds)
    found = alternate(works, rounds)
    for mine, theirs in zip(*found.values(), strict=True):
        require_near(name, mine.output, theirs.output)
    yield from (Figure(key, "s", seconds(runs)) for key, runs in found.items())
    yield Figure(f"{name}: diffusers / ours", "×", ratios(*found.values()), at_least=at_least)


def random_peer(preset: Preset, output: str) -> nn.Module:
    """Returns diffusers' network of the preset's sizes for an output, with random weights that never change."""
    config, text, make, kind = preset.diffuser, preset.text, _peer_class(output), "2D" if output == "image" else "Flat"
    latent = preset.image.autoencoder["latent_channels"] if output == "image" else [text.latent_dim, 1, 1]
    attends = [f"CrossAttn{{}}Block{kind}" if attends else f"{{}}Block{kind}" for attends in config.with_context]
    with torch.random.fork_rng():  # pyright: ignore[reportUnknownMemberType] - torch leaves parameters untyped
        torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - torch leaves a parameter untyped
        return make(
            in_channels=latent,
            out_channels=latent,
            down_block_types=tuple(block.format("Down") for block in attends),
            up_block_types=tuple(block.format("Up") for block in reversed(attends)),
            block_out_channels=config.channels,
            layers_per_block=config.num_res_blocks[0],
            cross_attention_dim=text.context_encoder["projection_dim"],
            attention_head_dim=config.num_heads,  # diffusers' name for the number of heads
        ).eval()


def _peer_class(output: str) -> Callable[..., nn.Module]:
    """Returns the class of diffusers' network of an output modality."""
    if output == "image":
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        return UNet2DConditionModel
    from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import UNetFlatConditionModel

    return UNetFlatConditionModel


def converted(peer: nn.Module, preset: Preset, output: str, contexts: list[str]) -> Diffuser:
    """Returns our network with the peer's weights, and with the same ones for each context."""
    with init_empty_weights(include_buffers=False):
        diffuser = build(preset, [Flow(output=output, context=context) for context in contexts]).diffuser
    state = peer.state_dict()
    for context in contexts:
        weights = to_ours(diffusers_unet(diffuser.plan, output, context), state)
        diffuser.load_state_dict(weights, strict=False, assign=True)
    return diffuser.eval()


def _inputs(
    number: int, batch: int, shape: tuple[int, ...], dim: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Draws latents, and tokens to denoise them with and without a context, anew for each round."""
    generator = Generator().manual_seed(number)
    latents = torch.randn(batch, *shape, generator=generator)
    return latents.to(device, dtype), torch.randn(2 * batch, _TOKENS, dim, generator=generator).to(device, dtype)


def _timesteps(number: int, batch: int, device: torch.device) -> Tensor:
    return torch.full((batch,), 981 - 20 * number % 980, device=device)


def image_inputs(
    preset: Preset, number: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws a latent of an image, its timestep, and tokens with and without a context: new ones for each number."""
    dim = preset.text.context_encoder["projection_dim"]
    latents, tokens = _inputs(number, 1, preset.image.latent_shape, dim, device, dtype)
    return latents, _timesteps(number, 1, device), tokens


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Returns the length of the difference of two tensors, as a share of the length of the one that is expected."""
    return float((found - expected).square().sum().sqrt() / expected.square().sum().sqrt())


def require_near(name: str, ours: Tensor, peer: Tensor) -> None:
    """Raises RuntimeError if two outputs differ by more than rounding."""
    error = relative_error(ours.float(), peer.float())
    if not error < _TOLERANCE[ours.dtype]:
        raise RuntimeError(f"{name}: ours and diffusers' differ by {error:.1e} of the output.")
