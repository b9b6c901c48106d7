import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from tests.unit.modalities.small_sound import small_sound
from versatile_diffusion.modalities.clap import ClapSoundEncoder
from versatile_diffusion.modalities.mels import MelSpectrum
from versatile_diffusion.modalities.sound_autoencoder import MelAutoencoder
from versatile_diffusion.modalities.sounds import Sound
from versatile_diffusion.model_presets.sounds import hifi_gan
from versatile_diffusion.training.loop.task import Task, TrainingConfig
from versatile_diffusion.training.loop.trainer import Trainer
from versatile_diffusion.training.tasks.clap import ClapTask, SoundAlignment
from versatile_diffusion.training.tasks.data import HardNegatives
from versatile_diffusion.training.tasks.mel_autoencoder import MelAutoencoderTask, as_images
from versatile_diffusion.training.tasks.vocoder import VocoderTask, spectral_errors

RATE = 2000
SPECTRUM = MelSpectrum(RATE, window=64, hop=40, bands=16, highest=1000.0)


def tones(count: int, seconds: float = 1.0) -> np.ndarray:
    """Mono waves of different tones, on and off."""
    t = np.arange(round(RATE * seconds)) / RATE
    sounding = np.sin(2 * np.pi * 2 * t) > 0
    return np.stack([0.5 * np.sin(2 * np.pi * (100 + 90 * i) * t) * sounding for i in range(count)])


def train(task: Task, folder: Path, steps: int, rate: float = 5e-3) -> tuple[dict[str, float], dict[str, float]]:
    """The losses of one batch before and after training."""
    batch = task.draw(Generator().manual_seed(0), 8)

    @torch.no_grad()
    def losses() -> dict[str, float]:
        return {name: loss.item() for compute in task.passes(batch) for name, loss in compute().items()}

    before = losses()
    Trainer(task, TrainingConfig(steps, 8, rate, warmup_steps=2), folder).run()
    return before, losses()


def test_the_mel_autoencoder_learns_and_shows_spectrograms(tmp_path: Path) -> None:
    torch.manual_seed(0)
    autoencoder = small_sound().autoencoder
    assert isinstance(autoencoder, MelAutoencoder)
    mels = autoencoder.log_mels(torch.as_tensor(tones(8))[:, None]).half().numpy()
    task = MelAutoencoderTask(autoencoder.kl, mels)
    before, after = train(task, tmp_path, 20)
    assert list(before) == ["error", "edges", "kl"] and after["error"] < 0.8 * before["error"]
    with torch.no_grad():
        shown = task.preview(autoencoder.kl)["spectrograms"]
    frames, bands = mels.shape[2:]
    assert isinstance(shown, Tensor) and shown.shape == (3, 2 * bands, 8 * frames)


def test_low_tones_are_at_the_bottom_of_a_spectrogram() -> None:
    mels = SPECTRUM.log_magnitudes(torch.as_tensor(tones(8)))[:, None]
    low, high = as_images(mels[[0, 7]])
    brightest = [int(image[0].mean(1).argmax()) for image in (low, high)]
    assert brightest[0] > 10 > brightest[1]


def test_channels_of_stereo_sounds_are_changed_over_in_half_of_the_draws() -> None:
    autoencoder = small_sound().autoencoder
    assert isinstance(autoencoder, MelAutoencoder)
    mels = np.stack([np.zeros((48, 16)), np.ones((48, 16))])[None].repeat(4, 0).astype(np.float16)
    drawn = MelAutoencoderTask(autoencoder.kl, mels).draw(Generator().manual_seed(0), 400)["mels"]
    assert set(drawn[:, :, 0, 0].sum(1).tolist()) == {1.0} and 150 < drawn[:, 0, 0, 0].sum() < 250


def test_a_vocoder_learns_what_is_heard_within_the_parts_it_is_given(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = hifi_gan(width=16, bands=16, rate=RATE, rates=(5, 4, 2), kernels=(15, 8, 4))
    waves = (tones(8) * 2**15).astype(np.int16)
    task = VocoderTask(SpeechT5HifiGan(SpeechT5HifiGanConfig(**config)), waves, SPECTRUM, frames=16)
    batch = task.draw(Generator().manual_seed(0), 3)
    assert batch["mels"].shape == (3, 16, 16) and batch["waves"].shape == (3, 16 * 40)
    assert float(batch["waves"].abs().max()) == pytest.approx(0.5, abs=0.02)
    inner = SPECTRUM.log_magnitudes(batch["waves"])[:, 2:-2]  # the same, but for what is near the edges
    torch.testing.assert_close(batch["mels"][:, 2:-2], inner, atol=1e-3, rtol=1e-3)
    before, after = train(task, tmp_path, 15, 1e-2)
    assert list(before) == ["convergence", "logarithms"] and after["logarithms"] < 0.9 * before["logarithms"]


def test_sounds_that_are_too_short_for_a_vocoder_are_refused() -> None:
    config = hifi_gan(width=16, bands=16, rate=RATE, rates=(5, 4, 2), kernels=(15, 8, 4))
    with pytest.raises(ValueError, match="Sounds have 700 samples, where parts of 16 frames need 800"):
        VocoderTask(SpeechT5HifiGan(SpeechT5HifiGanConfig(**config)), np.zeros((2, 700), np.int16), SPECTRUM, frames=16)


def test_spectral_errors_are_none_of_the_same_and_do_not_hear_the_phase() -> None:
    wave = torch.as_tensor(tones(2), dtype=torch.float32)
    assert all(float(error) == 0 for error in spectral_errors(wave, wave, (64, 128)).values())
    flipped = spectral_errors(-wave, wave, (64, 128))
    assert all(float(error) == pytest.approx(0, abs=1e-6) for error in flipped.values())
    halved = spectral_errors(wave / 2, wave, (64,))
    assert float(halved["convergence"]) == pytest.approx(0.5, abs=1e-3) and float(halved["logarithms"]) <= math.log(2)


def aligned() -> tuple[ClapSoundEncoder, np.ndarray]:
    torch.manual_seed(0)
    encoder = small_sound().context_encoder
    assert isinstance(encoder, ClapSoundEncoder)
    sounds = [Sound(wave[None].astype(np.float32), RATE) for wave in tones(8)]
    return encoder, encoder.features(sounds).half().numpy()


def test_the_encoder_of_sounds_learns_which_text_is_whose(tmp_path: Path) -> None:
    encoder, features = aligned()
    texts = torch.nn.functional.normalize(torch.randn(8, 2, encoder.dim), dim=-1)
    kept = texts.clone()
    before, after = train(ClapTask(SoundAlignment(encoder), features, texts), tmp_path, 30)
    assert after["contrastive"] < 0.8 * before["contrastive"]
    assert torch.equal(texts, kept)


def test_texts_of_another_width_are_refused() -> None:
    encoder, features = aligned()
    with pytest.raises(ValueError, match=f"Texts have 7 numbers, and the sounds' tokens {encoder.dim}"):
        ClapTask(SoundAlignment(encoder), features, torch.randn(8, 2, 7))


def test_every_second_sound_is_nearly_like_the_one_before() -> None:
    encoder, features = aligned()
    partners = torch.arange(8)[:, None].roll(1, 0)
    task = ClapTask(
        SoundAlignment(encoder), features, torch.randn(8, 2, encoder.dim), HardNegatives(partners, torch.ones(1))
    )
    drawn = torch.as_tensor(task.draw(Generator().manual_seed(0), 8)["features"])
    index = [next(i for i in range(8) if torch.equal(torch.as_tensor(features[i]), each)) for each in drawn]
    assert all(partners[first, 0] == second for first, second in zip(index[::2], index[1::2], strict=True))
