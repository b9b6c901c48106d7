import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn.functional import cosine_similarity

from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.applications.brain_decoding import similarity
from versatile_diffusion.modalities import ImageModality
from versatile_diffusion.pipeline.outputs import Origin

Pipe = VersatileDiffusionPipeline
SCANS = 3
LATENT = (4, 16, 16)
SHORT: dict[str, Any] = {"num_inference_steps": 2, "output_type": "latent"}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


IMAGE, TEXT = random(SCANS, 5, 24), random(SCANS, 16, 24, seed=1)


def stacked(images: Sequence[Sequence[Tensor]]) -> Tensor:
    return torch.stack([latent for row in images for latent in row])


def test_each_scan_gets_what_generate_makes_of_it(pipe: Pipe) -> None:
    made = pipe.reconstruct(IMAGE, TEXT, image_weight=0.7, num_outputs=2, seed=5, **SHORT)
    assert made.scores is None and made.order == [[0, 1]] * SCANS
    for scan in range(SCANS):
        contexts = [
            Context("image", embedding=IMAGE[scan : scan + 1], weight=0.7),
            Context("text", embedding=TEXT[scan : scan + 1], weight=0.3),
        ]
        seeds = [Generator().manual_seed(seed) for seed in (5, 6)]
        expected = pipe.generate("image", contexts, num_outputs=2, generator=seeds, **SHORT).latents
        torch.testing.assert_close(stacked([made.images[scan]]), expected, rtol=1e-4, atol=1e-4)


def test_inputs_of_a_batch_are_let_go_once_it_is_made(pipe: Pipe) -> None:
    alive: list[weakref.ref[Tensor]] = []

    def on_batch(origins: Sequence[Origin]) -> None:
        gc.collect()
        assert [one() is None for one in alive] == [True] * len(alive)  # nothing of the batches before
        embeddings = [context.embedding for context in origins[0].request.contexts]
        alive.extend(weakref.ref(embedding) for embedding in embeddings if embedding is not None)

    made = pipe.reconstruct(IMAGE, TEXT, num_outputs=2, batch_size=2, seed=5, on_batch=on_batch, **SHORT)
    assert len(alive) == 2 * SCANS
    assert [origin.seed for row in made.origins for origin in row] == [5, 6] * SCANS
    assert all(origin.request.contexts == () for row in made.origins for origin in row)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_the_batch_size_changes_no_result(pipe: Pipe, monkeypatch: pytest.MonkeyPatch, batch_size: int) -> None:
    options: dict[str, Any] = {
        "start": random(SCANS, *LATENT, seed=2), "strength": 0.5, "num_outputs": 2, "seed": 1, "rank_by": "tokens",
    }  # fmt: skip
    expected = pipe.reconstruct(IMAGE, TEXT[0], batch_size=3, **options, **SHORT)
    sizes: list[int] = []
    forward = pipe.diffuser.forward

    def recorded(latents: Tensor, *arguments: Any) -> Tensor:
        sizes.append(len(latents))
        return forward(latents, *arguments)

    monkeypatch.setattr(pipe.diffuser, "forward", recorded)
    made = pipe.reconstruct(IMAGE, TEXT[0], batch_size=batch_size, **options, **SHORT)
    assert max(sizes) == min(batch_size, 2 * SCANS)
    assert made.order == expected.order
    torch.testing.assert_close(stacked(made.images), stacked(expected.images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("output_type", "kind"), [("pil", Image.Image), ("pt", Tensor), ("np", np.ndarray)])
def test_pictures_come_as_asked_for(pipe: Pipe, output_type: str, kind: type) -> None:
    made = pipe.reconstruct(IMAGE[0].numpy(), num_outputs=2, num_inference_steps=1, output_type=output_type)
    assert [len(row) for row in made.images] == [2]
    assert all(isinstance(picture, kind) for picture in made.images[0])


@pytest.mark.parametrize("rank_by", ["image", "tokens"])
def test_the_most_similar_picture_comes_first(pipe: Pipe, rank_by: str) -> None:
    options: dict[str, Any] = {"num_outputs": 4, "num_inference_steps": 1, "seed": 3}
    made = pipe.reconstruct(IMAGE[:2], rank_by=rank_by, **options)
    unranked = pipe.reconstruct(IMAGE[:2], **options)
    assert made.scores is not None
    tokens = slice(0, 1) if rank_by == "image" else slice(None)
    for scan, (pictures, scores) in enumerate(zip(made.images, made.scores, strict=True)):
        assert scores == sorted(scores, reverse=True)
        for picture, score, j in zip(pictures, scores, made.order[scan], strict=True):
            assert (np.asarray(picture) == np.asarray(unranked.images[scan][j])).all()
            seen = pipe.encode_context("image", picture)[0, tokens]
            expected = cosine_similarity(seen, IMAGE[scan, tokens], dim=-1).mean()
            assert score == pytest.approx(float(expected), abs=1e-4)
        assert made.best[scan] is pictures[0]


def test_a_picture_is_most_similar_to_its_own_embedding(pipe: Pipe, picture: Image.Image) -> None:
    seen = pipe.encode_context("image", [picture, Image.new("RGB", (32, 32), "blue")])
    for rank_by in ("image", "tokens"):
        same, other = similarity(seen, seen[:1].expand(2, -1, -1), rank_by)
        assert same == pytest.approx(1, abs=1e-5) and other < same - 1e-4


def test_a_start_may_be_pictures_or_latents(pipe: Pipe, picture: Image.Image) -> None:
    options: dict[str, Any] = {"num_outputs": 1, "seed": 0, "strength": 0.5} | SHORT
    pictures = [picture, picture.rotate(90, expand=True), picture.rotate(180)]
    modality = pipe.modalities["image"]
    assert isinstance(modality, ImageModality)
    latents = modality.encode(modality.fit(modality.read(pictures)))
    of_pictures, of_latents, of_array = (
        stacked(pipe.reconstruct(IMAGE, start=start, **options).images)
        for start in (pictures, latents, latents.numpy())
    )
    assert torch.equal(of_latents, of_array)
    torch.testing.assert_close(of_pictures, of_latents, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(of_latents[0], of_latents[1], atol=1e-3)


def test_the_same_start_serves_all_scans(pipe: Pipe) -> None:
    start = random(1, *LATENT)
    options: dict[str, Any] = {"num_outputs": 1, "seed": 0, "strength": 0.5} | SHORT
    for_all = pipe.reconstruct(IMAGE, start=start, **options)
    for_each = pipe.reconstruct(IMAGE, start=start.expand(SCANS, -1, -1, -1), **options)
    assert torch.equal(stacked(for_all.images), stacked(for_each.images))


def test_unconditionals_are_zeros_or_what_they_are_given(pipe: Pipe, picture: Image.Image) -> None:
    def made(**options: Any) -> Tensor:
        return stacked(pipe.reconstruct(IMAGE, TEXT, num_outputs=1, seed=0, **options, **SHORT).images)

    zeros = made(image_unconditional="zeros", text_unconditional="zeros")
    default = made()
    assert not torch.allclose(default, zeros, atol=1e-3)
    nothing = pipe.encode_context("text", "")
    torch.testing.assert_close(made(image_unconditional="zeros", text_unconditional=nothing), default)
    grey = pipe.encode_context("image", picture)
    assert not torch.allclose(made(image_unconditional=grey), default, atol=1e-3)
    for_each = made(image_unconditional=grey.expand(SCANS, -1, -1), batch_size=2)
    torch.testing.assert_close(made(image_unconditional=grey), for_each, rtol=1e-4, atol=1e-4)


def test_noise_and_generators_may_be_given(pipe: Pipe) -> None:
    options: dict[str, Any] = {"num_outputs": 2, "batch_size": 3} | SHORT
    seeds = [Generator().manual_seed(seed) for seed in (8, 9, 8, 9, 8, 9)]
    expected = stacked(pipe.reconstruct(IMAGE, seed=8, **options).images)
    assert torch.equal(stacked(pipe.reconstruct(IMAGE, generator=seeds, **options).images), expected)
    noise = torch.cat([random(1, *LATENT, seed=seed) for seed in (8, 9)] * SCANS)
    assert torch.equal(stacked(pipe.reconstruct(IMAGE, latents=noise, **options).images), expected)
    one, same, other = (
        stacked(pipe.reconstruct(IMAGE, generator=Generator().manual_seed(seed), **options).images)
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


NAN = torch.full((1, 5, 24), torch.nan)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give an image_embedding, a text_embedding or both"),
        ({"image_embedding": IMAGE[:, :4]}, r"shape \(5, 24\) or \(scans, 5, 24\), got \(3, 4, 24\)"),
        ({"image_embedding": IMAGE[..., :20]}, r"\(scans, 5, 24\), got \(3, 5, 20\)"),
        ({"text_embedding": IMAGE}, r"text_embedding must have shape \(16, 24\)"),
        ({"image_embedding": IMAGE[0, 0]}, r"got \(24,\)"),
        ({"image_embedding": NAN}, "image_embedding holds values that are NaN or infinite"),
        ({"image_embedding": IMAGE, "text_embedding": TEXT[:2]}, "image_embedding: 3, text_embedding: 2"),
        ({"image_embedding": IMAGE, "start": random(2, *LATENT), "strength": 0.5}, "start: 2"),
        ({"image_embedding": IMAGE, "image_unconditional": IMAGE[:2]}, "image_unconditional: 2"),
        ({"image_embedding": IMAGE, "image_unconditional": IMAGE[0, :4]}, r"_unconditional must have shape \(5, 24\)"),
        ({"image_embedding": IMAGE, "image_unconditional": NAN}, "image_unconditional holds values that are NaN"),
        ({"image_embedding": IMAGE, "image_unconditional": object()}, "image_unconditional must be a tensor"),
        ({"image_embedding": IMAGE, "image_unconditional": "grey"}, 'must be "default", "zeros" or an embedding'),
        ({"text_embedding": TEXT, "text_unconditional": TEXT * 1j}, "text_unconditional must hold numbers"),
        ({"image_embedding": IMAGE.bool()}, "image_embedding must hold numbers, got bool"),
        ({"image_embedding": [[1.0], [1.0, 2.0]]}, "image_embedding must be a tensor or an array of numbers"),
        ({"image_embedding": np.full((5, 24), "a")}, "image_embedding must be a tensor or an array of numbers"),
        ({"image_embedding": IMAGE, "latents": "noise"}, "latents must be a tensor or an array of numbers"),
        ({"image_embedding": IMAGE, "image_weight": 1.5}, "image_weight must lie between 0"),
        ({"image_embedding": IMAGE, "strength": 0.5}, "A strength of 0.5 needs a start"),
        ({"image_embedding": IMAGE, "num_outputs": 0}, "num_outputs must be 1 or more"),
        ({"image_embedding": IMAGE, "batch_size": 0}, "batch_size must be 1 or more"),
        ({"image_embedding": IMAGE, "rank_by": "beauty"}, "rank_by must be None, 'image' or 'tokens', got 'beauty'"),
        ({"text_embedding": TEXT, "rank_by": "image"}, "give it, or leave rank_by out"),
        ({"image_embedding": IMAGE, "output_type": "jpg"}, "output_type must be one of"),
        ({"image_embedding": IMAGE, "latents": random(3, *LATENT)}, r"each of the 24 outputs, got \(3, 4, 16, 16\)"),
        ({"image_embedding": IMAGE, "generator": [Generator()] * 5}, "24 outputs need one generator, or 24, got 5"),
        ({"image_embedding": IMAGE, "generator": Generator(), "seed": 1}, "not both"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_made(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the diffuser ran")

    monkeypatch.setattr(pipe.diffuser, "forward", fail)
    with pytest.raises(ValueError, match=message):
        pipe.reconstruct(**arguments)


def test_options_that_belong_to_generate_alone_are_refused(pipe: Pipe, picture: Image.Image) -> None:
    with pytest.raises(TypeError, match="takes no colors_of: call `generate`"):
        pipe.reconstruct(IMAGE, colors_of=picture)


def test_a_model_without_these_contexts_says_so(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dict(pipe.diffuser.config) | {"context_dims": {"text": 24}}
    monkeypatch.setattr(type(pipe.diffuser), "config", property(lambda _: config))
    with pytest.raises(ValueError, match=r"no image contexts.*'image-to-image'"):
        pipe.reconstruct(IMAGE)


ARRAYS: dict[str, Callable[[Tensor], object]] = {
    "numpy": Tensor.numpy,
    "big-endian": lambda tensor: tensor.numpy().astype(">f8"),
    "half precision": lambda tensor: tensor.numpy().astype("f2"),
    "long double": lambda tensor: tensor.numpy().astype(np.longdouble),
    "integers": lambda tensor: tensor.numpy().astype(">i2"),
    "tensor of integers": Tensor.long,
    "bfloat16": Tensor.bfloat16,
    "column by column": lambda tensor: np.asfortranarray(tensor.numpy()),
    "backwards": lambda tensor: np.ascontiguousarray(tensor.numpy()[..., ::-1])[..., ::-1],
    "lists": Tensor.tolist,
    "lists of integers": lambda tensor: tensor.long().tolist(),
    "a list of tensors": list,
    "a list of arrays": lambda tensor: [each.numpy() for each in tensor],
}


def of_whole_numbers(*shape: int, seed: int) -> Tensor:
    return (2 * random(*shape, seed=seed)).round()  # which every type holds


@pytest.mark.parametrize("form", ARRAYS)
def test_arrays_mean_what_tensors_mean(pipe: Pipe, form: str) -> None:
    given = {
        "image_embedding": of_whole_numbers(2, 5, 24, seed=1),
        "text_embedding": of_whole_numbers(2, 16, 24, seed=2),
        "image_unconditional": of_whole_numbers(2, 5, 24, seed=3),
        "text_unconditional": of_whole_numbers(2, 16, 24, seed=4),
        "start": of_whole_numbers(2, *LATENT, seed=5),
        "latents": of_whole_numbers(2, *LATENT, seed=6),
    }

    def made(**values: object) -> Tensor:
        return stacked(pipe.reconstruct(**values, strength=0.9, num_outputs=1, seed=3, **SHORT).images)

    same = made(**given)
    assert torch.equal(made(**{name: ARRAYS[form](value) for name, value in given.items()}), same)
    for name, value in given.items():
        assert not torch.equal(made(**given | {name: ARRAYS[form](value + 1)}), same), name
