"""Everything that may be conditioned on, and what is said of what may not."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from PIL import Image
from torch import Generator, Tensor

from tests.unit.pipeline.pipeline_calls import SEA, SHORT, TENT, TEXT, latents, seeded
from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.diffuser.context_layers import ContextBlock
from versatile_diffusion.diffuser.data_layers import DataLayers
from versatile_diffusion.pipeline.request import Request
from versatile_diffusion.sampling.sampler import Remainder, StepChange
from versatile_diffusion.sampling.schedulers import SCHEDULERS, named_scheduler

Pipe = VersatileDiffusionPipeline


@pytest.fixture
def pictures() -> list[Image.Image]:
    """Four unlike ones."""
    levels = np.random.default_rng(0).integers(0, 255, (4, 28, 28, 3), dtype=np.uint8)
    return [Image.fromarray(level) for level in levels]


@pytest.fixture
def work(pipe: Pipe) -> Iterator[dict[str, int]]:
    """How often context blocks, data layers and context encoders have run."""
    counts = {"blocks": 0, "layers": 0, "encoders": 0}

    def count(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            counts[name] += 1

        return hook

    encoders = [modality.context_encoder for modality in pipe.modalities.values()]  # pyright: ignore
    blocks = [module for module in pipe.diffuser.modules() if isinstance(module, ContextBlock)]
    layers = [block for data in pipe.diffuser.data_layers.values() for block in data.children()]
    assert all(isinstance(data, DataLayers) for data in pipe.diffuser.data_layers.values())
    named = {"blocks": blocks, "layers": layers, "encoders": encoders}
    hooks = [module.register_forward_hook(count(name)) for name, group in named.items() for module in group]
    yield counts
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("to", ["image", "text"])
@pytest.mark.parametrize("position", [0, 2])
def test_all_weight_on_one_context_is_that_context_at_its_cost(
    pipe: Pipe, pictures: list[Image.Image], work: dict[str, int], to: str, position: int
) -> None:
    contexts = [Context("image", picture) for picture in pictures[:2]] + [TEXT, Context("text", SEA)]
    weights = [float(i == position) for i in range(len(contexts))]
    alone = latents(pipe, contexts[position], to)
    cost = dict(work)
    assert min(cost.values()) > 0
    mixed = [Context(c.modality, c.data, weight=w) for c, w in zip(contexts, weights, strict=True)]
    assert torch.equal(alone, latents(pipe, mixed, to))
    assert work == {name: 2 * count for name, count in cost.items()}


@pytest.mark.parametrize("to", ["image", "text"])
def test_a_text_and_four_pictures_each_with_its_own(pipe: Pipe, pictures: list[Image.Image], to: str) -> None:
    half = np.zeros((28, 28))
    half[:14] = 1

    def mixture(**last: Any) -> list[Context]:
        own: list[dict[str, Any]] = [{"weight": 0.4}, {"mask": half}, {"focus": 0.1}, {"weight": 0.5} | last]
        return [TEXT, *(Context("image", p, **more) for p, more in zip(pictures, own, strict=True))]

    made = latents(pipe, mixture(), to, guidance_scale=2)
    unlike: list[dict[str, Any]] = [
        {"weight": 0.9},
        {"focus": 0.9},
        {"mask": half},
        {"unconditional": torch.ones(1, 5, 24)},
    ]
    for other in unlike:
        assert not torch.allclose(made, latents(pipe, mixture(**other), to, guidance_scale=2)), other


# ---- negatives ----


def test_several_negatives_share_the_place_of_their_modality(pipe: Pipe, pictures: list[Image.Image]) -> None:
    image = Context("image", pictures[0])

    def away(*negative: Context) -> Tensor:
        return latents(pipe, [TEXT, image], negative=negative, guidance_scale=3)

    sea, tree = (Context("text", text) for text in (SEA, "a tree"))
    one = away(sea)
    torch.testing.assert_close(away(sea, sea), one, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(away(sea, Context("text", "a tree", weight=0)), one)
    picture = Context("image", pictures[1])
    assert not any(torch.allclose(one, other, atol=1e-3) for other in (away(sea, tree), away(sea, picture), away()))


@pytest.mark.parametrize("to", ["image", "text"])
def test_a_negative_of_another_modality_joins_by_its_weight(pipe: Pipe, pictures: list[Image.Image], to: str) -> None:
    def away(weight: float) -> Tensor:
        negative = Context("image", pictures[0], weight=weight)
        return latents(pipe, TEXT, to, negative=negative, guidance_scale=3)

    none = latents(pipe, TEXT, to, guidance_scale=3)
    assert torch.equal(away(0), none)
    torch.testing.assert_close(away(1e-6), none, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(away(1), none, atol=1e-3)


def test_weights_are_those_beside_a_negative_too(pipe: Pipe, pictures: list[Image.Image]) -> None:
    def away(weight: float) -> Tensor:
        text, image = (Context(c.modality, c.data, weight=weight) for c in (TEXT, Context("image", pictures[0])))
        return latents(pipe, text, negative=image, guidance_scale=3)

    torch.testing.assert_close(away(0.2), away(1.0))


def test_contexts_in_any_order_are_guided_in_one_batch(
    pipe: Pipe, pictures: list[Image.Image], work: dict[str, int]
) -> None:
    contexts = [TEXT, *(Context("image", picture) for picture in pictures[:2])]
    made, costs = [], []
    for order in ((0, 1, 2), (1, 0, 2)):
        before = work["layers"]
        made.append(latents(pipe, [contexts[i] for i in order], guidance_scale=3))
        costs.append(work["layers"] - before)
    assert costs[0] == costs[1]
    torch.testing.assert_close(*made, rtol=1e-4, atol=1e-4)


# ---- all at once ----


@pytest.mark.parametrize("to", ["image", "text"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_option_together(pipe: Pipe, pictures: list[Image.Image], to: str, name: str) -> None:
    pipe.scheduler = named_scheduler(name, pipe.scheduler)
    tokens = pipe.encode_context("text", [TENT, SEA])
    steps: list[int] = []

    def callback(bound: Pipe, step: int, *_: Any) -> None:
        steps.append(step)
        bound._interrupt = step == 1

    made = pipe.generate(
        to,
        [Context("text", embedding=tokens, unconditional="zeros"), Context("image", pictures[0], weight=0.5)],
        negative=Context("image", pictures[1]),
        guidance_interval=(0.1, 0.5),
        guidance_scale=2,
        start=pictures[:2] if to == "image" else [SEA, TENT],
        strength=0.6,
        num_inference_steps=6,
        num_outputs=2,
        latents=torch.zeros(4, *pipe.modalities[to].latent_shape()),  # pyright: ignore
        generator=[Generator().manual_seed(seed) for seed in range(4)],
        output_type="latent",
        callback_on_step_end=callback,  # pyright: ignore
    )
    assert made.latents.shape[0] == 4 and made.latents.isfinite().all()
    assert steps == [0, 1]


def test_the_progress_bar_counts_the_steps(pipe: Pipe, capfd: pytest.CaptureFixture[str]) -> None:
    pipe.set_progress_bar_config(disable=False, desc="tents")
    try:
        latents(pipe, TEXT, start=torch.zeros(1, 4, 16, 16), num_inference_steps=4, strength=0.5)
    finally:
        pipe.set_progress_bar_config(disable=True)
    assert "tents: 100%" in (shown := capfd.readouterr().err) and "2/2" in shown


# ---- bad input ----


@pytest.mark.parametrize(
    ("modality", "tokens", "message"),
    [
        ("image", 6, "image (embedding|unconditional) must have 5 or 4 tokens, .* got 6"),
        ("image", 3, "5 or 4 tokens"),
        ("text", 5, "text (embedding|unconditional) must have 16 tokens, .* got 5"),
    ],
)
def test_embeddings_of_wrong_token_counts(pipe: Pipe, modality: str, tokens: int, message: str) -> None:
    wrong = torch.zeros(1, tokens, 24)
    right = pipe.encode_context(modality, TENT if modality == "text" else Image.new("RGB", (8, 8)))
    for context in (Context(modality, embedding=wrong), Context(modality, embedding=right, unconditional=wrong)):
        with pytest.raises(ValueError, match=message):
            latents(pipe, context)


def test_a_mask_of_another_size_is_stretched_and_said(pipe: Pipe, picture: Image.Image) -> None:
    small, full = np.array([[1, 0], [1, 0]]) > 0, np.zeros((30, 40))
    full[:, :20] = 1
    with pytest.warns(UserWarning, match="mask is 2 × 2, its picture 40 × 30 pixels: it was stretched"):
        pipe.generate("image", Context("image", picture, mask=small), **SHORT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe.generate("image", Context("image", picture, mask=full), **SHORT)


@pytest.mark.parametrize(
    ("masks", "message"),
    [(np.zeros((30, 40)), "mask is all zero.*mark what is to be seen"), ([np.ones((30, 40))] * 2, "1 pictures need")],
)
def test_masks_that_do_not_go_with_their_pictures(pipe: Pipe, picture: Image.Image, masks: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        latents(pipe, Context("image", picture, mask=masks))


def test_a_strength_of_less_than_a_step_takes_one_and_says_so(pipe: Pipe) -> None:
    steps: list[int] = []
    options: dict[str, Any] = {"callback_on_step_end": lambda _, step, *__: steps.append(step)}
    start = torch.zeros(1, 4, 16, 16)
    with pytest.warns(UserWarning, match=r"strength of 0\.05 is less than one of 10 steps: .* 0\.1 or more"):
        latents(pipe, TEXT, start=start, strength=0.05, num_inference_steps=10, **options)
    assert steps == [0]


class Forward(DDIMScheduler):
    """A scheduler of a user's own that cannot add noise."""

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Any) -> Any:
        raise NotImplementedError


def test_schedulers_that_cannot_start_mid_way(pipe: Pipe) -> None:
    pipe.scheduler = Forward.from_config(pipe.scheduler.config)
    with pytest.raises(ValueError, match=r"Forward cannot start mid-way.*take a scheduler that can, such as DDIM"):
        latents(pipe, TEXT, start=torch.zeros(1, 4, 16, 16), strength=0.5, num_inference_steps=4)


def test_eta_is_checked_and_said_to_be_ddims(pipe: Pipe) -> None:
    for eta in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="eta must lie between 0"):
            latents(pipe, TEXT, eta=eta)
    pipe.scheduler = named_scheduler("euler", pipe.scheduler)
    with pytest.warns(UserWarning, match="EulerDiscreteScheduler has no eta"):
        latents(pipe, TEXT, eta=0.5)


def test_unknown_schedulers(pipe: Pipe) -> None:
    with pytest.raises(ValueError, match="one of ddim, dpm, unipc, euler, pndm, lms, lcm, tcd, got 'ddpm'"):
        named_scheduler("ddpm", pipe.scheduler)


@pytest.mark.parametrize(
    ("contexts", "negative", "message"),
    [
        ([Context("text", [TENT, SEA]), Context("text", [TENT] * 3)], None, "text context: 2, text context: 3"),
        ([Context("text", [TENT, SEA])], Context("text", [TENT] * 3), "text context: 2, text context: 3"),
    ],
)
def test_batches_that_do_not_match(
    pipe: Pipe, contexts: Sequence[Context], negative: Context | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        latents(pipe, contexts, negative=negative)


# ---- calls that are under way together ----


def test_calls_of_several_threads_do_not_disturb_each_other(pipe: Pipe) -> None:
    def made(steps: int) -> Tensor:
        return latents(pipe, TEXT, num_inference_steps=steps, generator=seeded(steps), scheduler="dpm")

    alone = [made(steps) for steps in (3, 8)]
    with ThreadPoolExecutor(2) as threads:
        for _ in range(3):
            together = list(threads.map(made, (3, 8)))
            assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


def test_an_interruption_is_of_its_own_call(pipe: Pipe) -> None:
    both, counts = Barrier(2), {2: 0, 6: 0}

    def made(stop_after: int) -> None:
        def callback(bound: Pipe, step: int, *_: Any) -> None:
            counts[stop_after] += 1
            if step == 0:
                both.wait(60)
            bound._interrupt = step + 1 == stop_after

        latents(pipe, TEXT, num_inference_steps=6, callback_on_step_end=callback)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(made, counts))
    assert counts == {2: 2, 6: 6}


def test_another_thread_interrupts_all_calls(pipe: Pipe) -> None:
    steps: list[int] = []

    def callback(bound: Pipe, step: int, *_: Any) -> None:
        steps.append(step)
        with ThreadPoolExecutor(1) as other:
            other.submit(setattr, bound, "_interrupt", True).result()

    latents(pipe, TEXT, num_inference_steps=6, callback_on_step_end=callback)
    assert steps == [0]


def test_what_remains_is_decoded_and_carries_its_request(pipe: Pipe) -> None:
    request = Request.of("image", TEXT, num_outputs=3, seeds=(5, 6, 7), num_inference_steps=3, guidance_rescale=0.5)
    made = pipe.run(request, on_step=lambda step: StepChange(rows=[0, 2]) if step.number == 2 else None)
    assert [origin.row for origin in made.origins] == [0, 2] and len(made.images) == 2
    assert [origin.seed for origin in made.origins] == [5, 7]
    assert made.origins[0].remainders == (Remainder(2, (0, 2)),)
    assert made.request.guidance_scale == pipe.modalities["image"].guidance_scale
    assert made.request.replaced(guidance_scale=None) == request


def test_seeds_are_known_only_where_each_output_has_a_fresh_generator_of_its_own(pipe: Pipe) -> None:
    used = Generator().manual_seed(3)
    torch.rand(1, generator=used)
    for generator in (None, Generator().manual_seed(1), [used, Generator()]):
        made = pipe.generate("image", TEXT, num_outputs=2, generator=generator, num_inference_steps=1)
        assert made.request.seeds is None
        with pytest.raises(ValueError, match="a generator of its own"):
            _ = made.origins[0].seed
    assert pipe.generate("image", TEXT, generator=seeded(4), num_inference_steps=1).request.seeds == (4,)
