"""What CLAP and AudioLDM hear is what transformers computes; latents and tokens are those of their networks."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import ClapFeatureExtractor, ClapTextConfig, ClapTextModelWithProjection
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from tests.unit.modalities.small_sound import sine, small_sound
from versatile_diffusion.modalities.clap import ClapSoundEncoder, ClapTextEncoder
from versatile_diffusion.modalities.mels import MelSpectrum, as_batch
from versatile_diffusion.modalities.sound import SoundModality
from versatile_diffusion.modalities.sound_autoencoder import MelAutoencoder, at_peak
from versatile_diffusion.modalities.sounds import Sound
from versatile_diffusion.model_presets.sizes import SoundPreset
from versatile_diffusion.model_presets.sounds import clap_sound, mel_autoencoder, tiny_sound


def noise(seconds: float, rate: int) -> Sound:
    drawn = np.random.default_rng(0).standard_normal(round(seconds * rate))
    swelling = np.linspace(0, 1, len(drawn)) ** 4  # from silence on, where rounding shows
    return Sound(0.1 * drawn * swelling, rate)


SOUNDS = {"sine": sine(440, 1.5, 48000), "noise": noise(3, 48000), "silence": Sound(np.zeros(48000), 48000)}


@pytest.mark.parametrize("name", SOUNDS)
def test_clap_hears_what_its_feature_extractor_does(name: str) -> None:
    extractor = ClapFeatureExtractor(frequency_min=50, frequency_max=14000, truncation="rand_trunc")
    with torch.device("meta"):
        encoder = ClapSoundEncoder(clap_sound())
    heard = encoder.features([SOUNDS[name]])
    theirs = extractor(SOUNDS[name].samples[0], sampling_rate=48000, return_tensors="pt")["input_features"]
    assert heard.shape == (1, 1, 1001, 64)
    torch.testing.assert_close(heard, torch.as_tensor(theirs).float(), atol=1e-4, rtol=0)


def test_clap_hears_the_beginning_of_what_is_longer() -> None:
    long = sine(440, 12, 2000)
    encoder = small_sound().context_encoder
    assert encoder is not None
    torch.testing.assert_close(encoder.features([long]), encoder.features([long.in_length(2 * 2000)]))


def audioldm_mels(wave: np.ndarray) -> np.ndarray:
    """The recipe of AudioLDM in float64: magnitudes of centred windows, Slaney's bands, the logarithm above 1e-5."""
    bands = mel_filter_bank(513, 64, 0, 8000, 16000, norm="slaney", mel_scale="slaney")
    window = window_function(1024, "hann")
    return spectrogram(wave, window, 1024, 160, power=1.0, mel_filters=bands, mel_floor=1e-5, log_mel="log").T


@pytest.mark.parametrize("name", SOUNDS)
def test_mels_are_those_of_audioldm(name: str) -> None:
    waves = at_peak(as_batch([SOUNDS[name].resampled(16000).samples]))
    ours = MelSpectrum().log_magnitudes(waves[:, 0])
    theirs = audioldm_mels(waves[0, 0].double().numpy())
    assert ours.shape[1] == waves.shape[-1] // 160
    assert np.abs(ours[0].numpy() - theirs[: ours.shape[1]]).max() < 1e-4
    if name != "silence":
        assert waves.abs().max() == pytest.approx(0.5) and waves.mean().abs() < 1e-6


def test_contexts_of_sounds_are_claps_tokens_of_which_the_whole_has_unit_length() -> None:
    modality = small_sound()
    encoder = modality.context_encoder
    assert encoder is not None
    sounds = [sine(300), sine(700, channels=2)]
    tokens = modality.embed(sounds)
    with torch.no_grad():
        whole = encoder.model(input_features=encoder.features(sounds)).audio_embeds
    torch.testing.assert_close(tokens[:, 0], torch.nn.functional.normalize(whole, dim=-1))
    assert tokens.shape == (2, *modality.context_shape) == (2, 65, 24)
    assert tokens[:, 1:].std(dim=1).mean() > 1e-3, "in sequence, and not one vector"


def test_contexts_of_texts_are_claps_tokens() -> None:
    config: dict[str, Any] = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config |= {"intermediate_size": 32, "max_position_embeddings": 20, "projection_dim": 24}
    torch.manual_seed(0)
    encoder = ClapTextEncoder({"model_type": "clap_text_model", "context_length": 8, **config}).eval()
    theirs = ClapTextModelWithProjection(ClapTextConfig(**config)).eval()
    theirs.load_state_dict(encoder.model.state_dict())
    ids = torch.tensor([[0, 5, 6, 7, 2, 1, 1, 1]])
    with torch.no_grad():
        tokens = encoder(ids)
        whole = theirs(input_ids=ids[:, :5]).text_embeds
    assert tokens.shape == (1, encoder.max_length, encoder.dim) and not tokens[:, 5:].any()
    torch.testing.assert_close(tokens[:, 0], torch.nn.functional.normalize(whole, dim=-1))


def test_latents_are_those_of_the_networks_that_it_is_made_of() -> None:
    modality = small_sound()
    autoencoder = modality.autoencoder
    assert isinstance(autoencoder, MelAutoencoder)
    sound = sine(300, 0.8, 2000)
    latent = modality.encode([sound])
    assert latent.shape == (1, *modality.latent_shape(width=1600)) == (1, 4, 20, 8)
    with torch.no_grad():
        mels = autoencoder.spectrum.log_magnitudes(at_peak(as_batch([sound.samples]))[:, 0])
        torch.testing.assert_close(latent, autoencoder.kl.encode(mels[:, None]).latent_dist.mode())  # pyright: ignore
        wave = autoencoder.vocoder(autoencoder.kl.decode(latent).sample[:, 0])  # pyright: ignore
    (made,) = modality.decode(latent)
    assert made.samples.shape == (1, 1600)
    torch.testing.assert_close(torch.as_tensor(made.samples), wave, atol=1e-4, rtol=0)


def test_an_autoencoder_of_two_channels_makes_stereo_sounds() -> None:
    sizes = tiny_sound().modalities["sound"]
    assert isinstance(sizes, SoundPreset) and sizes.autoencoder is not None
    kl = mel_autoencoder(channels=(32, 32), layers=1, latent_channels=4, stereo=True)
    modality = SoundModality({**sizes.autoencoder, "kl": kl}, scaling_factor=1.0, seconds=1.0).eval()
    autoencoder = modality.autoencoder
    assert isinstance(autoencoder, MelAutoencoder) and autoencoder.channels == 2
    tone = sine(300, 0.8, 2000).samples[0]
    both, left = Sound(np.stack([tone, tone]), 2000), Sound(np.stack([tone, 0.01 * tone]), 2000)
    mels = autoencoder.log_mels(as_batch([left.samples]))
    assert mels.shape == (1, 2, 40, 16) and mels[0, 0].mean() > mels[0, 1].mean() + 2  # the quiet side stays quiet
    latents = modality.encode([both, left])
    assert latents.shape == (2, 4, 20, 8) and not torch.equal(latents[0], latents[1])
    assert torch.equal(modality.encode([both]), modality.encode([Sound(tone, 2000)])), "mono sounds are on both sides"
    decoded = autoencoder.decoded_mels(latents)
    with torch.no_grad():
        expected = autoencoder.vocoder(decoded[1])
    made = modality.decode(latents)[1]
    assert made.samples.shape == (2, 1600)
    torch.testing.assert_close(torch.as_tensor(made.samples), expected, atol=1e-4, rtol=0)


def test_sounds_of_training_have_one_length() -> None:
    modality = small_sound()
    shapes = {modality.latent_shape_of(modality.crop(sine(300, seconds, 16000), 4)) for seconds in (0.1, 1, 2.5)}
    assert shapes == {(4, 24, 8)}
    cropped = modality.crop(sine(300, 0.1, 16000), 4)
    assert modality.encode([cropped]).shape == (1, 4, 24, 8) and not cropped.samples[:, 300:].any()
    assert modality.latent_shape(width=1) == (4, 2, 8) == modality.encode([Sound([0.5], 8000)]).shape[1:]
