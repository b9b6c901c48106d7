from typing import Any, cast

import pytest
import torch
from PIL import Image
from torch import Generator

from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.applications.editing import without
from versatile_diffusion.applications.rewriting import Change
from versatile_diffusion.modalities import TextModality

Pipe = VersatileDiffusionPipeline
SHORT: dict[str, Any] = {"num_inference_steps": 2, "output_type": "latent"}


def test_latents_lose_their_part_in_a_direction() -> None:
    latents, words = torch.randn(2, 5, 6, generator=Generator().manual_seed(0))
    words[0] = 0
    left = without(latents, words)
    assert torch.equal(left[0], latents[0])
    torch.testing.assert_close((left * words).sum(1), torch.zeros(5), atol=1e-6, rtol=0)


def test_rewriting_is_a_mixture_of_the_new_text_and_the_picture(pipe: Pipe, picture: Image.Image) -> None:
    def seeded() -> Generator:
        return Generator().manual_seed(3)

    edited = pipe.edit(picture, add="in the snow", text_share=0.7, generator=seeded(), **SHORT).latents
    found = pipe.image_to_text(picture, generator=Generator().manual_seed(0)).texts[0]
    text = Change(add="in the snow").rewrite(found, cast(TextModality, pipe.modality("text")))
    contexts = [Context("text", text, weight=0.7), Context("image", picture, weight=0.3)]
    torch.testing.assert_close(edited, pipe.generate("image", contexts, generator=seeded(), **SHORT).latents)


@pytest.mark.parametrize("method", ["rewrite", "latent"])
def test_edits_of_a_batch_are_those_made_one_at_a_time(pipe: Pipe, picture: Image.Image, method: str) -> None:
    other = picture.rotate(90)
    generators = [Generator().manual_seed(seed) for seed in (1, 2)]
    both = pipe.edit(
        [picture, other], remove=["red", ""], add=["blue", "night"], method=method, generator=generators, **SHORT
    ).latents
    alone = pipe.edit(other, add="night", method=method, generator=Generator().manual_seed(2), **SHORT).latents
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(both[0], both[1])


def test_a_start_keeps_the_picture(pipe: Pipe, picture: Image.Image) -> None:
    kept = pipe.edit(picture, "night", strength=0.0, **SHORT).latents
    torch.testing.assert_close(
        kept, pipe.generate("image", Context("text", ""), start=picture, strength=0.0, **SHORT).latents
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Nothing to change"),
        ({"prompt": "  "}, "Nothing to change"),
        ({"add": ["a", "b"]}, "1 pictures need one add, or 1, got 2"),
        ({"add": "a", "method": "magic"}, "magic"),
        ({"add": "a", "text_share": 0.0}, "text_share must lie above 0"),
        ({"add": "a", "text_share": 1.5}, "text_share must lie above 0"),
        ({"add": "a", "strength": 1.5}, "strength"),
    ],
)
def test_wrong_edits_are_explained(pipe: Pipe, picture: Image.Image, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipe.edit(picture, **options, **SHORT)
