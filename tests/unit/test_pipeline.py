from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Generator, Tensor

from tests.unit.test_sampling import SCHEDULERS, make
from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.checkpoints import CheckpointError
from versatile_diffusion.conditioning import Batch
from versatile_diffusion.diffuser import ContextTokens

Pipe = VersatileDiffusionPipeline
TENT, SEA = "a red tent in the meadow", "a blue lighthouse by the sea"
TEXT = Context("text", TENT)
SHORT: dict[str, Any] = {"num_inference_steps": 2, "output_type": "latent"}


def seeded(*seeds: int) -> list[Generator]:
    return [Generator().manual_seed(seed) for seed in seeds]


def latents(pipe: Pipe, contexts: Context | Sequence[Context], to: str = "image", **options: Any) -> Tensor:
    """What two steps from the seed 0 lead to."""
    options = {"generator": Generator().manual_seed(0)} | SHORT | options
    return pipe.generate(to, contexts, **options).latents


@pytest.fixture
def calls(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[ContextTokens]]:
    """The contexts of each call of the diffuser."""
    made: list[Sequence[ContextTokens]] = []
    forward = pipe.diffuser.forward

    def recorded(latents: Tensor, timesteps: Tensor, output: str, contexts: Sequence[ContextTokens]) -> Tensor:
        made.append(contexts)
        return forward(latents, timesteps, output, contexts)

    monkeypatch.setattr(pipe.diffuser, "forward", recorded)
    return made


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


# ---- contexts ----


@pytest.mark.parametrize("to", ["image", "text"])
def test_a_list_of_one_is_the_context_itself(pipe: Pipe, to: str) -> None:
    assert torch.equal(latents(pipe, TEXT, to), latents(pipe, [TEXT], to))


def test_contexts_of_weight_0_take_no_part(pipe: Pipe, picture: Image.Image, calls: list[Any]) -> None:
    rest = [Context("image", picture, weight=0), Context("text", "a tree", weight=0)]
    alone, mixed = latents(pipe, TEXT), latents(pipe, [rest[0], Context("text", TENT, weight=1), rest[1]])
    assert torch.equal(alone, mixed)
    assert [len(contexts) for contexts in calls] == [1] * 4


def test_texts_from_several_contexts(pipe: Pipe, picture: Image.Image) -> None:
    mixture = [Context("image", picture, weight=2), TEXT, Context("text", SEA)]
    both = latents(pipe, mixture, "text")
    assert both.shape == (1, 48)
    assert not any(torch.allclose(both, latents(pipe, one, "text"), atol=1e-3) for one in mixture)


@settings(max_examples=5)
@given(st.floats(0.1, 100), st.floats(0.1, 10))
def test_only_the_ratio_of_weights_matters(session_pipe: Pipe, weight: float, factor: float) -> None:
    def mixed(*weights: float) -> Tensor:
        first, second = (Context("text", text, weight=w) for text, w in zip((TENT, SEA), weights, strict=True))
        return latents(session_pipe, [first, second], "text")

    torch.testing.assert_close(mixed(weight, 1), mixed(weight * factor, factor), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("contexts", [[], [Context("text", TENT, weight=0), Context("text", SEA, weight=0)]])
def test_weights_that_sum_to_0(pipe: Pipe, contexts: list[Context]) -> None:
    with pytest.raises(ValueError, match="at least one context with a weight above 0"):
        pipe.generate("image", contexts)


def test_an_embedding_equals_its_data(pipe: Pipe, picture: Image.Image) -> None:
    for modality, data in (("text", [TENT, SEA]), ("image", picture)):
        embedding = pipe.encode_context(modality, data)
        assert torch.equal(
            latents(pipe, Context(modality, data)), latents(pipe, Context(modality, embedding=embedding))
        )


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (torch.zeros(1, 5, 23), r"must have shape \(batch, tokens, 24\), got \(1, 5, 23\)"),
        (torch.zeros(5, 24), r"must have shape \(batch, tokens, 24\), got \(5, 24\)"),
        (torch.zeros(1, 0, 24), "must have shape"),
        (torch.full((1, 5, 24), torch.nan), "finite"),
        (torch.zeros(1, 5, 24, dtype=torch.int64), "floating-point"),
    ],
)
def test_embeddings_that_do_not_fit(pipe: Pipe, embedding: Tensor, message: str) -> None:
    good = torch.zeros(1, 5, 24)
    for context in (Context("image", embedding=embedding), Context("image", embedding=good, unconditional=embedding)):
        with pytest.raises(ValueError, match=message):
            pipe.generate("image", context)


def test_embeddings_of_other_lengths_than_the_unconditional(pipe: Pipe, picture: Image.Image) -> None:
    tokens = pipe.encode_context("image", picture)
    for embedding in (tokens[:, 1:], torch.cat([tokens, tokens], dim=1)):
        assert latents(pipe, Context("image", embedding=embedding)).isfinite().all()


@pytest.mark.parametrize(("to", "expected"), [("image", "default"), ("text", "black")])
def test_the_unconditional(pipe: Pipe, picture: Image.Image, to: str, expected: str) -> None:
    black = pipe.encode_context("image", Image.new("RGB", (8, 8)))
    made = {
        "default": latents(pipe, Context("image", picture), to),
        "zeros": latents(pipe, Context("image", picture, unconditional="zeros"), to),
        "black": latents(pipe, Context("image", picture, unconditional=black), to),
    }
    official = "zeros" if to == "image" else "black"
    torch.testing.assert_close(made["default"], made[official])
    assert not torch.allclose(made["zeros"], made["black"])


def test_a_negative_context_takes_the_place_of_the_unconditional(pipe: Pipe) -> None:
    negative = Context("text", SEA)
    told = latents(pipe, TEXT, negative=negative)
    assert torch.equal(told, latents(pipe, Context("text", TENT, unconditional=pipe.encode_context("text", SEA))))
    assert not torch.allclose(told, latents(pipe, TEXT))


def test_scale_1_asks_for_no_unconditional(pipe: Pipe, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(pipe.modalities["text"]), "unconditional", None)
    latents(pipe, TEXT, guidance_scale=1)
    assert [len(contexts[0].tokens) for contexts in calls] == [1, 1]


@pytest.mark.parametrize("to", ["image", "text"])
def test_guidance_is_the_models_own_unless_told(pipe: Pipe, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    official = latents(pipe, TEXT, to)
    assert torch.equal(official, latents(pipe, TEXT, to, guidance_scale=7.5))
    other = pipe.modalities[to].config | {"guidance_scale": 2.0}  # pyright: ignore
    monkeypatch.setattr(pipe.modalities[to], "_internal_dict", other)
    assert torch.equal(latents(pipe, TEXT, to), latents(pipe, TEXT, to, guidance_scale=2.0))
    assert not torch.equal(latents(pipe, TEXT, to), official)


def test_guidance_within_an_interval(pipe: Pipe, calls: list[Any]) -> None:
    latents(pipe, TEXT, num_inference_steps=4, guidance_interval=(0.2, 0.6))
    assert [len(contexts[0].tokens) for contexts in calls] == [1, 2, 2, 1]


def test_masks_and_focus_change_what_is_seen(pipe: Pipe, picture: Image.Image) -> None:
    mask = np.zeros((30, 40))
    mask[:15] = 1
    seen: list[dict[str, Any]] = [{}, {"mask": mask}, {"focus": 1.0}]
    refused: list[dict[str, Any]] = [{"mask": mask}, {"focus": 0.2}]
    whole, masked, style = (latents(pipe, Context("image", picture, **options)) for options in seen)
    assert not torch.allclose(whole, masked)
    assert not torch.allclose(whole, style)
    for options in refused:
        with pytest.raises(ValueError, match=r"no (masks|focus)"):
            pipe.generate("image", Context("text", TENT, **options))


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


def test_other_sizes(pipe: Pipe) -> None:
    (image,) = pipe.text_to_image(TENT, height=16, width=40, num_inference_steps=1).images
    assert image.size == (40, 16)


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
        (lambda p, i: p.image_to_text("nothing.png"), ValueError, "Cannot read a picture from nothing.png"),
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


# ---- opening, saving and moving ----


def test_a_saved_pipeline_makes_the_same(pipe: Pipe, tmp_path: Path, picture: Image.Image) -> None:
    pipe.save_pretrained(tmp_path / "model")
    opened = Pipe.from_pretrained(tmp_path / "model")
    assert type(opened.scheduler) is type(pipe.scheduler)
    assert torch.equal(opened.scheduler.alphas_cumprod, pipe.scheduler.alphas_cumprod)
    for to in ("image", "text"):
        contexts = [TEXT, Context("image", picture)]
        assert torch.equal(latents(opened, contexts, to), latents(pipe, contexts, to))

    with pytest.raises(CheckpointError, match=r"no flow audio-to-image: it makes image or text from image or text"):
        Pipe.from_pretrained(tmp_path / "model", flows=["audio-to-image"])
    with pytest.raises(ValueError, match="'text2image' is not a flow"):
        Pipe.from_pretrained(tmp_path / "model", flows=["text2image"])
    with pytest.raises(ValueError, match="name one at least"):
        Pipe.from_pretrained(tmp_path / "model", flows=[])


@pytest.mark.parametrize("flows", [["text-to-image"], "text-to-image"])
def test_one_flow_alone(pipe: Pipe, tmp_path: Path, picture: Image.Image, flows: Any) -> None:
    pipe.save_pretrained(tmp_path / "model")
    opened = Pipe.from_pretrained(tmp_path / "model", flows=flows)
    assert torch.equal(latents(opened, TEXT), latents(pipe, TEXT))
    with pytest.raises(ValueError, match=r"makes image, not 'text'.*load the model"):
        opened.image_to_text(picture)
    with pytest.raises(ValueError, match=r"contexts of text, not of 'image'.*load it"):
        opened.image_variation(picture)
    with pytest.raises(RuntimeError, match="load the model with a flow"):
        opened.encode("text", TENT)


def test_half_precision_is_opened_as_single(pipe: Pipe, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "model")
    half = Pipe.from_pretrained(tmp_path / "model", torch_dtype=torch.float16)
    assert half.diffuser.dtype == half.modalities.dtype == torch.float16
    half.save_pretrained(tmp_path / "half")
    opened = Pipe.from_pretrained(tmp_path / "half")
    assert opened.diffuser.dtype == opened.modalities.dtype == torch.float32
    opened.to("cpu", torch.bfloat16)
    assert opened.diffuser.dtype == opened.modalities.dtype == torch.bfloat16
    assert opened.text_to_image(TENT, num_inference_steps=1, output_type="pt").images.isfinite().all()
    assert opened.image_to_text(Image.new("RGB", (8, 8)), num_inference_steps=1).texts


def test_offloading_says_that_it_needs_an_accelerator(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusers.pipelines.pipeline_utils.get_device", lambda: "cpu")
    with pytest.raises(RuntimeError, match="requires accelerator"):
        pipe.enable_model_cpu_offload()
    assert latents(pipe, TEXT).isfinite().all()


def test_offloading_moves_the_modalities_before_they_are_used(pipe: Pipe) -> None:
    from accelerate import cpu_offload_with_hook
    from accelerate.hooks import remove_hook_from_module

    expected = latents(pipe, TEXT)
    moved: list[str] = []
    try:
        _, hook = cpu_offload_with_hook(pipe.modalities, "cpu")
        hook.hook.pre_forward = lambda module, *args, **kwargs: moved.append("modalities")  # pyright: ignore
        assert torch.equal(latents(pipe, TEXT), expected)
        assert moved
    finally:
        remove_hook_from_module(pipe.modalities)
