"""The loops of people who decode brains, on our `image_unet` and on diffusers', with the same small random weights.

They are written from the published settings of MindEye, MindBridge and Dynadiff: what differs between the two runs is
the pipeline that they get, as it would be for a project that changes its import.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.transformers.dual_transformer_2d import DualTransformer2DModel as TheirTransformer
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Generator, Tensor
from torch.nn.functional import mse_loss

from tests.parity.small_pipelines import built, components, mended
from versatile_diffusion.compat import DualTransformer2DModel, VersatileDiffusionDualGuidedPipeline

WIDTH, TOKENS = 24, {"text": 77, "image": 257}
LORA = ["attn2.to_k", "attn2.to_q", "attn2.to_v", "attn2.to_out.0"]
STEP, LOOP = {"rtol": 0, "atol": 1e-4}, {"rtol": 0, "atol": 2e-3}


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


@dataclass(frozen=True)
class Library:
    """Where a project imports from: how its pipeline is opened, and the class that it searches for."""

    open: Callable[[Path], Any]
    transformer: type


def opened_by_diffusers(folder: Path) -> Any:
    """Saved folders no longer load there, so it gets what the folder was made of."""
    return mended(built(diffusers, "DualGuided"))


OURS = Library(VersatileDiffusionDualGuidedPipeline.from_pretrained, DualTransformer2DModel)
HALFWAY = Library(OURS.open, TheirTransformer)  # one import changed, the other forgotten
THEIRS = Library(opened_by_diffusers, TheirTransformer)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as diffusers saved it, of all flows."""
    folder = tmp_path_factory.mktemp("hub") / "versatile-diffusion"
    built(diffusers, "").save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Settings:
    """What projects choose."""

    ratio: float = 0.0
    order: tuple[str, str] = ("text", "image")
    scheduler: type = UniPCMultistepScheduler
    steps: int = 20
    guidance: float = 3.5
    strength: float = 0.85
    samples: int = 2


def prepared(library: Library, folder: Path, settings: Settings) -> Any:
    pipe = library.open(folder)
    for part in (pipe.image_unet, pipe.text_unet, pipe.vae, pipe.image_encoder, pipe.text_encoder):
        part.eval()
        part.requires_grad_(False)
    pipe.scheduler = settings.scheduler.from_pretrained(folder, subfolder="scheduler")
    for _, module in pipe.image_unet.named_modules():
        if isinstance(module, library.transformer):
            module.mix_ratio = settings.ratio
            for i, kind in enumerate(settings.order):
                module.condition_lengths[i] = TOKENS[kind]
                module.transformer_index_for_condition[i] = 1 if kind == "text" else 0
    return pipe


@torch.no_grad()
def reconstructed(pipe: Any, settings: Settings, blurry: Tensor, predicted: dict[str, Tensor]) -> list[Tensor]:
    """The first prediction of noise, the latents in the end, and the pictures."""
    unet, vae, scheduler = pipe.image_unet, pipe.vae, pipe.scheduler
    generator = Generator(unet.device).manual_seed(42)
    conditions: list[Tensor] = []
    for kind in settings.order:
        tokens = predicted[kind].repeat(settings.samples, 1, 1)
        tokens = tokens / (tokens[:, :1].norm(dim=-1, keepdim=True) + 1e-6)
        conditions.append(torch.cat([torch.zeros_like(tokens), tokens]).to(unet.device, unet.dtype))
    embeddings = torch.cat(conditions, dim=1)

    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    side = unet.config.sample_size
    assert blurry.shape[-2:] == (side * factor,) * 2
    scheduler.set_timesteps(settings.steps, device=unet.device)
    first = settings.steps - min(int(settings.steps * settings.strength), settings.steps)
    timesteps = scheduler.timesteps[first:]
    noise = torch.randn(settings.samples, unet.in_channels, side, side, generator=generator, dtype=embeddings.dtype)
    start = vae.encode(2 * blurry.to(vae.dtype) - 1).latent_dist.sample(generator) * vae.config.scaling_factor
    start = start.repeat(settings.samples, 1, 1, 1)
    latents = scheduler.add_noise(start, noise, timesteps[:1].repeat(settings.samples))

    predictions: list[Tensor] = []
    for t in timesteps:
        doubled = scheduler.scale_model_input(torch.cat([latents] * 2), t)
        predictions.append(unet(doubled, t, encoder_hidden_states=embeddings).sample)
        without, given = predictions[-1].chunk(2)
        latents = scheduler.step(without + settings.guidance * (given - without), t, latents).prev_sample
    return [predictions[0], latents, vae.decode(latents / vae.config.scaling_factor).sample]


PREDICTED = {"text": random(1, 77, WIDTH, seed=1), "image": random(1, 257, WIDTH, seed=2)}
BOTH = torch.cat([PREDICTED["text"], PREDICTED["image"]], dim=1)
NO_TEXT = PREDICTED | {"text": torch.zeros(1, 77, WIDTH)}


@pytest.mark.parametrize(
    ("settings", "predicted"),
    [
        pytest.param(Settings(), NO_TEXT, id="MindEye"),
        pytest.param(Settings(ratio=0.5, guidance=5, samples=16), PREDICTED, id="MindBridge"),
        pytest.param(Settings(ratio=0.6, order=("image", "text")), PREDICTED, id="the image first"),
        pytest.param(
            Settings(ratio=0.4, scheduler=DDIMScheduler, steps=50, guidance=7.5, strength=0.75),
            PREDICTED,
            id="Brain-Diffuser's settings",
        ),
    ],
)
def test_loops_make_what_they_make_with_diffusers(
    settings: Settings, predicted: dict[str, Tensor], folder: Path
) -> None:
    blurry = random(1, 3, 16, 16, seed=3).clamp(0, 1)
    expected = reconstructed(prepared(THEIRS, folder, settings), settings, blurry, predicted)
    for library in (OURS, HALFWAY):
        made = reconstructed(prepared(library, folder, settings), settings, blurry, predicted)
        torch.testing.assert_close(made[0], expected[0], **STEP)
        torch.testing.assert_close(made[1], expected[1], **LOOP)
        torch.testing.assert_close(made[2], expected[2], **LOOP)
        assert expected[1].std() > 0.1


@torch.no_grad()
def test_conditions_mixed_by_hand(folder: Path) -> None:
    """Each condition alone, and what is predicted of it mixed outside."""
    mixed: list[Tensor] = []
    for library in (OURS, THEIRS):
        text, image = (
            prepared(library, folder, Settings(ratio=ratio)).image_unet(random(1, 4, 8, 8, seed=5), 500, BOTH).sample
            for ratio in (1.0, 0.0)
        )
        mixed.append(0.4 * text + 0.6 * image)
    torch.testing.assert_close(*mixed, **STEP)


# ---- Dynadiff's way ----


def trained(library: Library, folder: Path, *, wider: bool) -> list[Tensor]:
    """LoRAs into the cross-attention, one step on them and on the embeddings, and what is predicted then."""
    from peft import LoraConfig, inject_adapter_in_model

    pipe = prepared(library, folder, Settings(scheduler=DDPMScheduler))
    unet, vae = pipe.image_unet, pipe.vae
    unet.enable_gradient_checkpointing()
    if wider:  # a blurry picture's latents beside the noisy ones
        widened = torch.zeros(32, 8, 3, 3, dtype=unet.conv_in.weight.dtype)
        widened[:, :4] = unet.conv_in.weight.detach()
        unet.conv_in.weight = torch.nn.Parameter(widened)
    unet._hf_peft_config_loaded = True
    unet.peft_config = {}
    torch.manual_seed(11)
    config = LoraConfig(r=4, lora_alpha=4, target_modules=LORA, init_lora_weights=False)
    inject_adapter_in_model(config, unet, "default")
    unet.set_adapter("default")
    unet.conv_in.requires_grad_(wider)

    brain = torch.nn.Parameter(PREDICTED["image"].clone())
    learned = [brain, *(parameter for parameter in unet.parameters() if parameter.requires_grad)]
    assert len(learned) == 1 + 2 * len(LORA) * 2 * 4 + (2 if wider else 0)
    optimizer = torch.optim.SGD(learned, lr=1.0)  # AdamW takes the sign of gradients that are nearly 0
    picture = 2 * random(1, 3, 16, 16, seed=3).clamp(0, 1) - 1
    latent = vae.encode(picture).latent_dist.mode() * vae.config.scaling_factor
    noise = random(*latent.shape, seed=7)
    timesteps = torch.tensor([321])
    noisy = pipe.scheduler.add_noise(latent, noise, timesteps)
    noisy = torch.cat([noisy, random(*noisy.shape, seed=8)], dim=1) if wider else noisy

    def predict() -> Tensor:
        tokens = torch.cat([torch.zeros(1, 77, WIDTH), brain], dim=1)
        return unet(noisy, timesteps, encoder_hidden_states=tokens, cross_attention_kwargs=None, return_dict=False)[0]

    before = predict()
    loss = mse_loss(before, noise)
    loss.backward()
    assert brain.grad is not None and brain.grad.abs().max() > 1e-6
    gradient = brain.grad.clone()
    optimizer.step()
    return [before.detach(), loss.detach(), gradient, brain.detach(), predict().detach()]


@pytest.mark.parametrize("wider", [False, True])
def test_loras_are_trained_with_the_embeddings(wider: bool, folder: Path) -> None:
    ours, theirs = (trained(library, folder, wider=wider) for library in (OURS, THEIRS))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, **STEP)
    assert not torch.allclose(ours[0], ours[-1], atol=1e-3), "the step changed what is predicted"


def test_a_lora_of_theirs_is_one_of_ours(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig

    ours, theirs = (prepared(library, folder, Settings(ratio=0.5)) for library in (OURS, THEIRS))
    theirs.image_unet.add_adapter(LoraConfig(r=2, target_modules=LORA, init_lora_weights=False))
    theirs.image_unet.save_lora_adapter(tmp_path)
    given = random(1, 4, 8, 8, seed=5), 500, BOTH
    with torch.no_grad():
        before = ours.image_unet(*given).sample
        ours.image_unet.load_lora_adapter(tmp_path, prefix=None, use_safetensors=True)
        made = ours.image_unet(*given).sample
        assert not torch.allclose(made, before, atol=1e-3)
        torch.testing.assert_close(made, theirs.image_unet(*given).sample, **STEP)


def test_half_precision_runs_the_loop(folder: Path) -> None:
    settings = Settings(ratio=0.5, steps=4)
    pipe = prepared(OURS, folder, settings).to(torch.bfloat16)
    made = reconstructed(pipe, settings, random(1, 3, 16, 16, seed=3).clamp(0, 1), PREDICTED)
    assert made[-1].dtype == torch.bfloat16 and made[-1].isfinite().all()


def test_the_parts_that_such_projects_use_are_there(folder: Path) -> None:
    pipe = OURS.open(folder)
    expected = components()
    assert pipe.vae.config.scaling_factor == expected["vae"].config.scaling_factor
    text = pipe.tokenizer(["a red house"], padding="max_length", return_tensors="pt")
    assert pipe.text_encoder(**text).text_embeds.shape == (1, WIDTH)
    pixels = pipe.image_feature_extractor(images=[torch.zeros(3, 40, 40)], return_tensors="pt").pixel_values
    hidden = pipe.image_encoder(pixels).last_hidden_state
    assert pipe.image_encoder.visual_projection(pipe.image_encoder.vision_model.post_layernorm(hidden)).shape[-1] == 24
    again: Any = UniPCMultistepScheduler.from_config(pipe.scheduler.config)
    again.set_timesteps(20)
    assert len(again.timesteps) == 20
