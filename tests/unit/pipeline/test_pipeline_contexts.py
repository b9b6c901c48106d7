"""What the pipeline makes of contexts, and of what stands for none."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from tests.unit.pipeline.pipeline_calls import SEA, TENT, TEXT, Pipe, latents
from versatile_diffusion import Context
from versatile_diffusion.diffuser import PreparedContext


@pytest.fixture
def calls(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[PreparedContext]]:
    """The contexts of each call of the diffuser."""
    made: list[Sequence[PreparedContext]] = []
    forward = pipe.diffuser.forward

    def recorded(latents: Tensor, timesteps: Tensor, output: str, contexts: Sequence[PreparedContext]) -> Tensor:
        made.append(contexts)
        return forward(latents, timesteps, output, contexts)

    monkeypatch.setattr(pipe.diffuser, "forward", recorded)
    return made


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
    assert [len(contexts[0]) for contexts in calls] == [1, 1]


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
    assert [len(contexts[0]) for contexts in calls] == [1, 2, 2, 1]


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
