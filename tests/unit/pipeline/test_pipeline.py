"""The pipeline: its flows, batches, starts and outputs, and what it says of bad input."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Generator, Tensor

from tests.unit.pipeline.pipeline_calls import SEA, SHORT, TENT, TEXT, Pipe, latents, seeded
from tests.unit.sampling.test_sampler import SCHEDULERS, make
from versatile_diffusion import Context
from versatile_diffusion.diffuser import ContextTokens
from versatile_diffusion.pipeline.conditioning import Batch

# ---- the named flows ----


def test_the_four_flows_and_their_mixture(pipe: Pipe, picture: Image.Image) -> None:
    options: dict[str, Any] = {"num_inference_steps": 2}
    for made in (
        pipe.text_to_image(TENT, **options),
        pipe.image_variation(picture, **options),
        pipe.dual_guided(TENT, picture, **options),
    ):
        assert [image.size for image in made.images] == [(32, 32)]
        with pytest.raises(AttributeError, match=r"modality 'image': read \.items"):
            _ = made.texts
    for made in (pipe.image_to_text(picture, **options), pipe.text_variation(TENT, **options)):
        assert [type(text) for text in made.texts] == [str]


def test_the_named_flows_say_what_generate_is_told(pipe: Pipe, picture: Image.Image) -> None:
    def same(made: Any, to: str, *contexts: Context, **options: Any) -> bool:
        return torch.equal(made.latents, latents(pipe, contexts, to, **options))

    def options() -> dict[str, Any]:
        return SHORT | {"generator": Generator().manual_seed(0)}

    image = Context("image", picture)
    assert same(pipe.text_to_image(TENT, **options()), "image", TEXT)
    assert same(pipe.image_to_text(picture, **options()), "text", image)
    assert same(pipe.text_variation(TENT, **options()), "text", TEXT)
    varied = pipe.image_variation(picture, fidelity=0.5, focus=0.8, **options())
    assert same(varied, "image", Context("image", picture, focus=0.8), start=picture, strength=0.5)
    mixture = [Context("text", TENT, weight=0.7), Context("image", picture, weight=0.3)]
    assert same(pipe.dual_guided(TENT, picture, 0.7, **options()), "image", *mixture)
    assert same(pipe.dual_guided(TENT, picture, 1, **options()), "image", TEXT)
    assert same(pipe.dual_guided(TENT, picture, 0, **options()), "image", image)


def test_fidelity_1_is_the_picture_itself(pipe: Pipe, picture: Image.Image) -> None:
    square = picture.resize((32, 32))
    made = pipe.image_variation(square, fidelity=1, **SHORT)
    torch.testing.assert_close(made.latents, pipe.encode("image", square))


def test_colours_are_those_of_the_picture(pipe: Pipe, picture: Image.Image) -> None:
    pictures = [Image.new("RGB", (9, 9), "navy"), picture]
    made = pipe.image_variation(pictures, color_adjust=True, num_outputs=2, output_type="pt", num_inference_steps=2)
    torch.testing.assert_close(made.images[:2], torch.tensor([0, 0, 128 / 255])[:, None, None].expand(2, 3, 32, 32))
    means = torch.from_numpy(np.array(picture)).float().mean((0, 1)) / 255
    torch.testing.assert_close(made.images[2:].mean((2, 3)), means.expand(2, 3), atol=0.1, rtol=0)


# ---- batches and seeds ----


@pytest.mark.parametrize("to", ["image", "text"])
def test_a_batch_equals_its_outputs_made_one_at_a_time(pipe: Pipe, to: str) -> None:
    options: dict[str, Any] = {"num_inference_steps": 3, "output_type": "pt", "eta": 0.5}
    batch = pipe.generate(to, Context("text", [TENT, SEA]), num_outputs=2, generator=seeded(1, 2, 3, 4), **options)
    alone = [
        pipe.generate(to, Context("text", prompt), generator=seeded(seed), **options)
        for prompt, seed in ((TENT, 1), (TENT, 2), (SEA, 3), (SEA, 4))
    ]
    if to == "image":
        torch.testing.assert_close(batch.images, torch.cat([one.images for one in alone]), atol=1e-5, rtol=0)
    else:
        assert batch.texts == [one.texts[0] for one in alone]
        assert len(set(batch.texts)) > 1
    assert [len(group) for group in batch.groups] == [2, 2]


def test_equal_seeds_equal_outputs(pipe: Pipe) -> None:
    first, second, other = (pipe.text_to_image(TENT, generator=g, **SHORT).latents for g in seeded(5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.allclose(first, other)


def test_batches_of_lists_tensors_and_arrays(pipe: Pipe) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (3, 20, 20, 3), dtype=np.uint8)
    forms = [list(pictures), pictures, torch.from_numpy(pictures).movedim(-1, 1)]
    first, *others = (latents(pipe, [TEXT, Context("image", form)]) for form in forms)
    assert first.shape == (3, 4, 16, 16)
    assert all(torch.equal(first, other) for other in others)


def test_a_batch_of_starts_shares_a_context(pipe: Pipe) -> None:
    start = pipe.encode("text", [TENT, SEA])
    made = pipe.generate("text", TEXT, start=start, strength=0.5, num_outputs=2, **SHORT)
    assert made.latents.shape == (4, 48)
    assert len(made.groups) == 2


@given(st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_every_row_belongs_to_its_item(items: int, num_outputs: int, shared: bool) -> None:
    tokens = torch.arange(1 if shared else items)[:, None, None].float()
    contexts = [ContextTokens("a", tokens), ContextTokens("b", torch.zeros(items, 1, 1))]
    batch = Batch.of(contexts, None, num_outputs)
    (rows, _) = batch.tokens(contexts, torch.device("cpu"), torch.float32)
    expected = [0 if shared else item for item in range(items) for _ in range(num_outputs)]
    assert rows.tokens.flatten().tolist() == expected
    assert len(batch) == len(expected)


# ---- schedulers ----


@pytest.mark.parametrize("name", SCHEDULERS)
def test_any_scheduler_makes_pictures_from_noise_and_from_a_start(pipe: Pipe, name: str) -> None:
    assert type(pipe.scheduler).__name__ == "DDIMScheduler"
    pipe.scheduler = make(name)
    start = torch.zeros(1, 4, 16, 16)
    for options in ({}, {"start": start, "strength": 0.5}):
        first, second = (latents(pipe, TEXT, num_inference_steps=4, guidance_scale=1, **options) for _ in range(2))
        assert first.isfinite().all()
        assert torch.equal(first, second)


# ---- starts, latents and sizes ----


def test_a_start_may_be_data_or_latents(pipe: Pipe, picture: Image.Image) -> None:
    square = picture.resize((32, 32))
    for to, start in (("image", square), ("text", SEA)):
        from_data = latents(pipe, TEXT, to, start=start, strength=0.5)
        assert torch.equal(from_data, latents(pipe, TEXT, to, start=pipe.encode(to, start), strength=0.5))
        assert not torch.allclose(from_data, latents(pipe, TEXT, to))


def test_strength_goes_from_the_start_to_noise(pipe: Pipe) -> None:
    start = pipe.encode("text", SEA)
    assert torch.equal(latents(pipe, TEXT, "text", start=start, strength=0), start)
    assert torch.equal(latents(pipe, TEXT, "text", start=start), latents(pipe, TEXT, "text"))
    with pytest.raises(ValueError, match="needs a start"):
        latents(pipe, TEXT, strength=0.5)


def test_a_start_is_brought_to_the_size_of_the_outputs(pipe: Pipe) -> None:
    start = Image.new("RGB", (90, 50))
    assert latents(pipe, TEXT, start=start, strength=0.5).shape == (1, 4, 16, 16)
    assert latents(pipe, TEXT, start=start, strength=0.5, height=24, width=40).shape == (1, 4, 12, 20)
    latent = torch.zeros(1, 4, 12, 20)
    assert latents(pipe, TEXT, start=latent, strength=0.5).shape == latent.shape
    with pytest.raises(ValueError, match=r"\(1, 4, 12, 20\)"):
        latents(pipe, TEXT, start=latent, strength=0.5, height=32)


def test_latents_are_the_noise_to_start_from(pipe: Pipe) -> None:
    noise = torch.randn(1, 4, 16, 16, generator=Generator().manual_seed(0))
    assert torch.equal(latents(pipe, TEXT, latents=noise, generator=None), latents(pipe, TEXT))
    with pytest.raises(ValueError, match=r"latents must have shape \(1, 4, 16, 16\), got \(2, 4, 16, 16\)"):
        latents(pipe, TEXT, latents=torch.zeros(2, 4, 16, 16))


@pytest.mark.parametrize(("height", "width"), [(16, 40), (18, 38), (2, 34)])
def test_other_sizes(pipe: Pipe, height: int, width: int) -> None:
    (image,) = pipe.text_to_image(TENT, height=height, width=width, num_inference_steps=1).images
    assert image.size == (width, height)


def test_pictures_with_an_alpha_channel_are_no_latents(pipe: Pipe) -> None:
    levels = torch.randint(256, (2, 4, 32, 32), dtype=torch.uint8, generator=Generator().manual_seed(0))
    made = latents(pipe, TEXT, start=levels, strength=0.5)
    assert torch.equal(made, latents(pipe, TEXT, start=list(levels), strength=0.5))


# ---- callbacks and output types ----


def test_a_callback_may_change_latents_and_stop(pipe: Pipe) -> None:
    seen: list[tuple[int, int]] = []

    def callback(bound: Pipe, step: int, timestep: Tensor, given: dict[str, Tensor]) -> dict[str, Tensor] | None:
        seen.append((step, int(timestep)))
        bound._interrupt = step == 1
        return {"latents": given["latents"] * 0} if step == 1 else None

    changed = latents(pipe, TEXT, num_inference_steps=4, callback_on_step_end=callback)
    assert seen == [(0, 751), (1, 501)]
    assert not changed.any()
    latents(pipe, TEXT)
    assert pipe._interrupt is False


@pytest.mark.parametrize("to", ["image", "text"])
def test_a_callback_may_let_outputs_go(pipe: Pipe, to: str) -> None:
    def some(bound: Pipe, step: int, *_: Any) -> dict[str, Any] | None:
        return {1: {"rows": [0, 2, 3]}, 2: {"rows": [1, 2, 3]}}.get(step)

    made = [
        latents(pipe, TEXT, to, num_outputs=4, generator=seeded(1, 2, 3, 4), eta=0.5, num_inference_steps=5, **options)
        for options in ({}, {"callback_on_step_end": some})
    ]
    same = [torch.allclose(one, other, atol=1e-4) for one, other in zip(*made, strict=True)]
    assert same == [False, False, True, True]  # what has left does not come back


def test_a_callback_that_returns_nothing_changes_nothing(pipe: Pipe) -> None:
    assert torch.equal(latents(pipe, TEXT, callback_on_step_end=lambda *_: None), latents(pipe, TEXT))


def test_output_types(pipe: Pipe) -> None:
    def made(output_type: str) -> Any:
        return pipe.text_to_image(TENT, num_inference_steps=1, generator=seeded(0), output_type=output_type)

    (image,), array, tensor, latent = (made(kind).images for kind in ("pil", "np", "pt", "latent"))
    assert (array.shape, tensor.shape, latent.shape) == ((1, 32, 32, 3), (1, 3, 32, 32), (1, 4, 16, 16))
    np.testing.assert_allclose(array, tensor.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(np.asarray(image) / 255, array[0], atol=1 / 255)
    (decoded,) = pipe.decode("image", latent)
    assert np.array_equal(np.asarray(decoded), np.asarray(image))


def test_texts_take_options_of_decoding(pipe: Pipe) -> None:
    (text,) = pipe.text_variation(TENT, num_inference_steps=1, temperature=0, max_tokens=2).texts
    assert len(text.split()) <= 2


# ---- bad input ----


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda p, i: p.generate("audio", TEXT), ValueError, "makes image and text, not 'audio'"),
        (
            lambda p, i: p.generate("image", Context("audio", 1)),
            ValueError,
            "contexts of image or text, not of 'audio'",
        ),
        (lambda p, i: p.encode("audio", 1), ValueError, "knows image and text, not 'audio'"),
        (lambda p, i: p.text_to_image(TENT, output_type="pill"), ValueError, "pil, pt, np, latent, got 'pill'"),
        (lambda p, i: p.text_variation(TENT, output_type="str"), ValueError, "pil, pt, np, latent, got 'str'"),
        (lambda p, i: p.text_to_image(TENT, height=33), ValueError, "height must be divisible by 2, got 33"),
        (lambda p, i: p.text_to_image(TENT, width=31), ValueError, "width must be divisible by 2"),
        (lambda p, i: p.text_variation(TENT, height=32), ValueError, "no height and width"),
        (lambda p, i: p.text_variation(TENT, temperature=-1), ValueError, "temperature must be 0 or more"),
        (lambda p, i: p.text_variation(TENT, top_p=2), ValueError, "top_p"),
        (lambda p, i: p.text_to_image(TENT, colors_of="none.png"), ValueError, "There is no file none.png"),
        (lambda p, i: p.text_to_image(TENT, colors_of=[]), ValueError, "the colours of 0 evenly"),
        (lambda p, i: p.text_to_image(TENT, num_outputs=3, colors_of=[i] * 2), ValueError, "the colours of 2 evenly"),
        (lambda p, i: p.text_to_image(TENT, step=3), TypeError, r"options: step\..*'image' take colors_of"),
        (
            lambda p, i: p.text_variation(TENT, temprature=1),
            TypeError,
            r"temprature\..*'text' take temperature",
        ),
        (lambda p, i: p.text_to_image(TENT, temperature=1), TypeError, "Unknown options: temperature"),
        (lambda p, i: p.text_to_image([]), ValueError, "text batch holds no item"),
        (lambda p, i: p.text_to_image(TENT, num_outputs=0), ValueError, "num_outputs must be 1 or more"),
        (lambda p, i: p.text_to_image(TENT, num_inference_steps=0), ValueError, "num_inference_steps must be 1"),
        (lambda p, i: p.text_to_image(TENT, generator=seeded(1, 2)), ValueError, "1 outputs need one generator, or 1"),
        (lambda p, i: p.image_variation(i, fidelity=1.1), ValueError, "fidelity must lie between 0"),
        (lambda p, i: p.image_variation(i, focus=-0.1), ValueError, "focus must lie between 0"),
        (lambda p, i: p.image_variation(torch.full((3, 8, 8), torch.nan)), ValueError, "NaN"),
        (lambda p, i: p.image_to_text("nothing.png"), ValueError, "There is no file nothing.png"),
        (lambda p, i: p.image_to_text(3), TypeError, "A picture must be"),
        (lambda p, i: p.text_to_image(TENT, start=[], strength=0.5), ValueError, "image batch holds no item"),
        (lambda p, i: p.dual_guided(TENT, i, 1.5), ValueError, "text_to_image_strength must lie between 0"),
        (lambda p, i: p.dual_guided([TENT] * 2, [i] * 3), ValueError, "text context: 2, image context: 3"),
        (lambda p, i: p.text_to_image([TENT] * 2, start=[i] * 3, strength=0.5), ValueError, "start: 3"),
        (lambda p, i: p.text_to_image(TENT, start=i, strength=-1), ValueError, "strength must lie between 0"),
        (lambda p, i: p.text_to_image(TENT, start=torch.full((1, 4, 16, 16), torch.nan)), ValueError, "start holds"),
        (
            lambda p, i: p.text_to_image(TENT, latents=torch.full((1, 4, 16, 16), torch.inf)),
            ValueError,
            "latents holds",
        ),
    ],
)
def test_bad_input_is_explained(
    pipe: Pipe, picture: Image.Image, use: Callable[[Pipe, Any], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        use(pipe, picture)
