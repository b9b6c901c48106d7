from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.diffuser import ContextTokens, Diffuser, PreparedContext
from versatile_diffusion.sampling.guidance import Guidance, guided_denoiser, rescaled
from versatile_diffusion.sampling.options import Sampling


@pytest.fixture
def diffuser(pipe: VersatileDiffusionPipeline) -> Diffuser:
    return pipe.diffuser


@pytest.fixture
def calls(diffuser: Diffuser, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Sequences of tokens, and contexts, of each call of the diffuser."""
    made: list[tuple[int, int]] = []
    forward = diffuser.forward

    def counted(
        latents: Tensor, timesteps: Tensor, output: str, contexts: Sequence[ContextTokens | PreparedContext]
    ) -> Tensor:
        first = contexts[0]
        made.append((len(first) if isinstance(first, PreparedContext) else len(first.tokens), len(contexts)))
        return forward(latents, timesteps, output, contexts)

    monkeypatch.setattr(diffuser, "forward", counted)
    return made


def tokens(number: int, weight: float = 1.0, modality: str = "text") -> ContextTokens:
    return ContextTokens(modality, torch.randn(2, number, 24), weight)


@torch.no_grad()
def test_one_batch_equals_two_evaluations(diffuser: Diffuser, calls: list[tuple[int, int]]) -> None:
    latents, timestep = torch.randn(2, 48), torch.tensor(501)
    contexts, nothing = [tokens(5, 0.3), tokens(4, 0.7, "image")], [tokens(5, 0.3), tokens(4, 0.7, "image")]
    guided = guided_denoiser(diffuser, "text", contexts, nothing, Guidance(3.0))(latents, timestep)
    assert calls == [(4, 2)]
    with_context, without = (diffuser(latents, timestep.expand(2), "text", c) for c in (contexts, nothing))
    torch.testing.assert_close(guided, without + 3 * (with_context - without), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(with_context, without)


@torch.no_grad()
def test_contexts_of_other_lengths_are_evaluated_apart(diffuser: Diffuser, calls: list[tuple[int, int]]) -> None:
    latents, timestep = torch.randn(2, 48), torch.tensor(501)
    contexts, nothing = [tokens(5)], [tokens(3)]
    guided = guided_denoiser(diffuser, "text", contexts, nothing, Guidance(3.0))(latents, timestep)
    assert calls == [(2, 1), (2, 1)]
    with_context, without = (diffuser(latents, timestep.expand(2), "text", c) for c in (contexts, nothing))
    torch.testing.assert_close(guided, without + 3 * (with_context - without))


@torch.no_grad()
def test_scale_1_needs_no_unconditional(diffuser: Diffuser, calls: list[tuple[int, int]]) -> None:
    latents, timestep, contexts = torch.randn(2, 48), torch.tensor(501), [tokens(5)]
    guided = guided_denoiser(diffuser, "text", contexts, [], Guidance(1))(latents, timestep)
    assert calls == [(2, 1)]
    torch.testing.assert_close(guided, diffuser(latents, timestep.expand(2), "text", contexts))


@torch.no_grad()
def test_guidance_only_within_its_interval(diffuser: Diffuser, calls: list[tuple[int, int]]) -> None:
    denoise = guided_denoiser(diffuser, "text", [tokens(5)], [tokens(5)], Guidance(3.0, (0.2, 0.5)))
    for timestep in (100, 200, 350, 500, 501):
        denoise(torch.randn(2, 48), torch.tensor(timestep))
    assert [rows for rows, _ in calls] == [2, 4, 4, 4, 2]


@torch.no_grad()
@pytest.mark.parametrize("output", ["image", "text"])
def test_keys_and_values_are_computed_once(diffuser: Diffuser, output: str) -> None:
    latents = torch.randn(2, *(48,) if output == "text" else (4, 8, 8))
    contexts, nothing = [tokens(5, 0.3), tokens(4, 0.7, "image")], [tokens(5, 0.3), tokens(4, 0.7, "image")]
    with FlopCounterMode(display=False) as preparing:
        denoise = guided_denoiser(diffuser, output, contexts, nothing, Guidance(3.0))
    width = sum(step.channels for step in diffuser.plan.context)
    assert preparing.get_total_flops() == 2 * 2 * 24 * 4 * (5 + 4) * width  # of 4 rows of both contexts' tokens
    found: list[Tensor] = []
    counts: list[int] = []
    for _ in range(3):
        with FlopCounterMode(display=False) as counter:
            found.append(denoise(latents, torch.tensor(501)))
        counts.append(counter.get_total_flops())
    torch.testing.assert_close(found[1], found[0])
    assert counts == [counts[0]] * 3
    both = [
        ContextTokens(n.modality, torch.cat([n.tokens, c.tokens]), c.weight)
        for n, c in zip(nothing, contexts, strict=True)
    ]
    with FlopCounterMode(display=False) as whole:
        diffuser(latents, torch.tensor([501, 501]), output, both)
    assert whole.get_total_flops() == preparing.get_total_flops() + counts[0]


@torch.no_grad()
def test_what_no_context_has_told_apart_is_computed_once(diffuser: Diffuser) -> None:
    latents, time, contexts = (
        torch.randn(1, 4, 8, 8),
        torch.tensor([501]),
        [ContextTokens("text", torch.randn(2, 5, 24))],
    )

    def counted(copies: int) -> tuple[Tensor, int]:
        with FlopCounterMode(display=False) as counter:
            made = diffuser(latents.repeat(copies, 1, 1, 1), time.repeat(copies), "image", contexts)
        return made, counter.get_total_flops()

    (once, cost), (twice, whole) = counted(1), counted(2)
    torch.testing.assert_close(once, twice)
    assert cost < whole


@pytest.mark.parametrize("interval", [(0.5, 0.5), (0.6, 0.5), (-0.1, 0.5), (0.5, 1.1)])
def test_intervals_out_of_range(interval: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="guidance_interval must be"):
        Guidance(3.0, interval)


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_scales_that_are_no_numbers(scale: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Guidance(scale)


def test_rescaled_guidance_has_the_spread_of_the_conditional_prediction() -> None:
    guided, conditional = 3 * torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    whole = rescaled(guided, conditional, 1.0)
    torch.testing.assert_close(whole.flatten(1).std(1), conditional.flatten(1).std(1))
    torch.testing.assert_close(rescaled(guided, conditional, 0.3), 0.3 * whole + 0.7 * guided)


def test_guidance_derives_from_the_options_of_sampling() -> None:
    sampling = Sampling(guidance_interval=(0.2, 0.8), guidance_rescale=0.7)
    assert Guidance.of(sampling, 3.0, 1000) == Guidance(3.0, (0.2, 0.8), 1000, 0.7)
