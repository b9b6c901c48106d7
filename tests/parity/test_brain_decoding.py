"""The examples of brain decoding, against the loops that users of the official weights write out themselves."""

import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from PIL import Image
from torch import Generator, Tensor

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.applications.brain_decoding import Reconstructions
from versatile_diffusion.diffuser import ContextTokens, Diffuser
from versatile_diffusion.modalities import ImageModality, TextModality

EXAMPLES = Path(__file__).parents[2] / "examples"
SCANS, SAMPLES = 2, 3
LATENT = (4, 16, 16)
BETAS: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}


def example(name: str) -> Callable[..., Reconstructions]:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["reconstruct"]


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


IMAGE, TEXT, START = random(SCANS, 5, 24, seed=1), random(SCANS, 16, 24, seed=2), random(SCANS, *LATENT, seed=3)


@torch.no_grad()
def reference(
    diffuser: Diffuser,
    scheduler: Any,
    contexts: Sequence[tuple[str, Tensor, Tensor, float]],
    start: Tensor,
    guidance: float,
    steps: int,
    left: int,
    seed: int,
) -> Tensor:
    """One latent of one scan. The contexts are (modality, unconditional, conditional, weight)."""
    both = [ContextTokens(name, torch.stack([without, with_]), weight) for name, without, with_, weight in contexts]
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps[steps - left :]
    noise = torch.randn(1, *LATENT, generator=Generator().manual_seed(seed))
    x = scheduler.add_noise(start[None], noise, timesteps[:1])
    for t in timesteps:
        without, with_ = diffuser(torch.cat([x, x]), t.expand(2), "image", both).chunk(2)
        x = scheduler.step(without + guidance * (with_ - without), t, x).prev_sample
    return x[0]


def latents(made: Reconstructions) -> list[list[Tensor]]:
    """Of each scan, in the order of the seeds."""
    return [
        [picture for _, picture in sorted(zip(order, pictures, strict=True), key=lambda pair: pair[0])]
        for order, pictures in zip(made.order, made.images, strict=True)
    ]


@pytest.mark.parametrize("text", [None, TEXT])
def test_mindeye(pipe: VersatileDiffusionPipeline, text: Tensor | None) -> None:
    made = example("mindeye")(
        pipe, IMAGE, text, START, num_outputs=SAMPLES, seed=10, batch_size=4, output_type="latent"
    )
    for scan in range(SCANS):
        contexts = [("image", torch.zeros(5, 24), IMAGE[scan], 0.5)]
        if text is not None:
            contexts.append(("text", torch.zeros(16, 24), text[scan], 0.5))
        for sample in range(SAMPLES):
            expected = reference(
                pipe.diffuser, UniPCMultistepScheduler(**BETAS), contexts, START[scan],
                guidance=3.5, steps=20, left=17, seed=10 + sample,
            )  # fmt: skip
            torch.testing.assert_close(latents(made)[scan][sample], expected, rtol=1e-4, atol=1e-4)
    assert made.scores is not None and all(scores == sorted(scores, reverse=True) for scores in made.scores)


@torch.no_grad()
def test_brain_diffuser(pipe: VersatileDiffusionPipeline) -> None:
    made = example("brain_diffuser")(pipe, IMAGE, TEXT, START, seed=4, output_type="latent")
    image, text = cast(ImageModality, pipe.modalities["image"]), cast(TextModality, pipe.modalities["text"])
    grey = image.embed([torch.full((3, 224, 224), 128 / 255)])[0]
    scheduler = DDIMScheduler(set_alpha_to_one=False, clip_sample=False, **BETAS)
    for scan in range(SCANS):
        contexts = [("image", grey, IMAGE[scan], 0.6), ("text", text.embed([""])[0], TEXT[scan], 0.4)]
        expected = reference(
            pipe.diffuser, scheduler, contexts, START[scan], guidance=7.5, steps=50, left=37, seed=4
        )  # fmt: skip
        torch.testing.assert_close(made.images[scan][0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mindeye", "brain_diffuser"])
def test_the_examples_run(
    name: str, pipe: VersatileDiffusionPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe.save_pretrained(tmp_path / "model")
    np.savez(tmp_path / "embeddings.npz", image=IMAGE[:1].numpy(), text=TEXT[:1].numpy(), start=START[:1].numpy())
    guesses = tmp_path / "guesses"
    guesses.mkdir()
    Image.linear_gradient("L").save(guesses / "0.png")
    folders = [str(guesses)] if name == "brain_diffuser" else []
    given = [str(tmp_path / "embeddings.npz"), *folders, str(tmp_path / "made"), "--model", str(tmp_path / "model")]
    monkeypatch.setattr(sys, "argv", [name, *given])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert Image.open(tmp_path / "made" / "0000.png").size == (32, 32)
