"""Parts of sound where others keep them: folders that diffusers' and transformers' own classes wrote."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
    ClapTextModelWithProjection,
    PreTrainedTokenizerFast,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
)

from tests.unit.modalities.small_sound import sine
from tests.unit.modalities.test_mels import audioldm_mels
from versatile_diffusion.checkpoints import CheckpointError, open_source
from versatile_diffusion.checkpoints.encoder_sources import open_parts
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.sound import SoundModality
from versatile_diffusion.modalities.sound_autoencoder import MelAutoencoder, at_peak
from versatile_diffusion.modalities.text import TextModality
from versatile_diffusion.model_presets import Preset, build, vd_sound, vd_sound_codi, vd_sound_hifi
from versatile_diffusion.model_presets.sounds import hifi_gan, mel_autoencoder
from versatile_diffusion.training.own_data.starts import assemble

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "a", "tent", "in", "the", "rain"]
TEXT = {"vocab_size": len(WORDS), "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
TEXT |= {"intermediate_size": 32, "max_position_embeddings": 80, "projection_dim": 24}
AUDIO = {"patch_embeds_hidden_size": 8, "hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 2]}
AUDIO |= {"spec_size": 64, "num_mel_bins": 16, "window_size": 4, "num_hidden_layers": 2}


def random(module: Any) -> Any:
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return module.eval()


def save_tokenizer(folder: Path) -> None:
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore
    made.post_processor = processors.TemplateProcessing(  # pyright: ignore
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=made, **names).save_pretrained(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of AudioLDM, one of AudioLDM 2, and one of CLAP."""
    root = tmp_path_factory.mktemp("sources")
    kl = random(AutoencoderKL(**mel_autoencoder((32, 32, 32), 1), scaling_factor=0.9))
    vocoder = random(SpeechT5HifiGan(SpeechT5HifiGanConfig(**hifi_gan(32))))
    clap = random(ClapModel(ClapConfig(text_config=TEXT, audio_config=AUDIO, projection_dim=24)))  # pyright: ignore
    text = ClapTextModelWithProjection(ClapTextConfig(**TEXT))  # pyright: ignore
    text.load_state_dict({key: value for key, value in clap.state_dict().items() if key.startswith("text_")})
    features = ClapFeatureExtractor(16, 16000, 640, 2, frequency_max=8000, truncation="rand_trunc")
    for name, encoder in (("audioldm", text), ("audioldm2", clap)):
        kl.save_pretrained(root / name / "vae")
        vocoder.save_pretrained(root / name / "vocoder")
        encoder.save_pretrained(root / name / "text_encoder")
        save_tokenizer(root / name / "tokenizer")
        (root / name / "unet").mkdir()
    features.save_pretrained(root / "audioldm2" / "feature_extractor")
    clap.save_pretrained(root / "clap")
    features.save_pretrained(root / "clap")
    save_tokenizer(root / "clap")
    return {path.name: path for path in root.iterdir()}


@pytest.mark.parametrize("name", ["audioldm", "audioldm2"])
def test_latents_and_waves_are_those_of_its_own_parts(folders: dict[str, Path], name: str) -> None:
    sound = open_parts("sound", [folders[name]])
    assert isinstance(sound, SoundModality) and isinstance(sound.autoencoder, MelAutoencoder)
    assert sound.config["scaling_factor"] == 0.9 and (sound.rate, sound.autoencoder.hop) == (16000, 640)
    kl = AutoencoderKL.from_pretrained(folders[name] / "vae")
    vocoder = SpeechT5HifiGan.from_pretrained(folders[name] / "vocoder")
    tone = sine(440, 0.4, 16000)
    mels = audioldm_mels(at_peak(torch.as_tensor(tone.samples)[None])[0, 0].double().numpy())[:40]
    with torch.no_grad():
        theirs = kl.encode(torch.as_tensor(mels).float()[None, None]).latent_dist.mode()  # pyright: ignore
        wave = vocoder(kl.decode(theirs).sample[:, 0])  # pyright: ignore
    ours = sound.encode([tone])
    assert ours.shape == (1, 8, 10, 16)
    torch.testing.assert_close(ours, 0.9 * theirs, atol=1e-4, rtol=1e-4)
    (made,) = sound.decode(ours)
    torch.testing.assert_close(torch.as_tensor(made.samples), wave, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["audioldm2", "clap"])
def test_contexts_of_sounds_are_those_of_its_clap(folders: dict[str, Path], name: str) -> None:
    sound = open_parts("sound", [folders[name]])
    assert isinstance(sound, SoundModality) and sound.context_encoder is not None
    tone = sine(440, 1, 16000)
    clap = ClapModel.from_pretrained(folders[name] / ("text_encoder" if name == "audioldm2" else ""))
    extractor = ClapFeatureExtractor.from_pretrained(folders[name] / ("feature_extractor" if name != "clap" else ""))
    heard = extractor(tone.samples[0], sampling_rate=16000, return_tensors="pt")  # pyright: ignore
    with torch.no_grad():
        found = clap.audio_model(input_features=heard["input_features"].float())
    tokens = sound.embed([tone])
    assert sound.context_dim == 16 and (name == "clap") == (sound.autoencoder is None)
    norm = found.pooler_output.norm(dim=-1)
    torch.testing.assert_close(tokens[:, 0] * norm, found.pooler_output, atol=1e-4, rtol=1e-3)
    patches = found.last_hidden_state.flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens[:, 1:] * norm, patches, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["audioldm", "audioldm2", "clap"])
def test_contexts_of_texts_are_those_of_its_clap(folders: dict[str, Path], name: str) -> None:
    text = open_parts("text", [folders[name]])
    assert isinstance(text, TextModality) and text.context_shape == (77, 32)
    clap = ClapModel.from_pretrained(folders["clap"])
    with torch.no_grad():
        whole = clap.text_model(input_ids=torch.tensor([[0, 4, 5, 2]])).pooler_output
    torch.testing.assert_close(text.embed(["a tent"])[:, 0], torch.nn.functional.normalize(whole, dim=-1))
    if name == "audioldm":
        assert text.autoencoder is None
        with pytest.raises(CheckpointError, match="nothing of the modality 'image'"):
            open_parts("image", [folders[name]])


def test_a_model_is_put_together_of_them(folders: dict[str, Path]) -> None:
    flows = [Flow.parse(name) for name in ("text-to-sound", "sound-variation")]
    start = assemble("preset:tiny-sound", [str(folders["audioldm"]), str(folders["clap"])], flows, seed=0)
    components = start.load()
    assert list(components.diffuser.data_layers) == ["sound"]
    assert components.diffuser.config["context_dims"] == {"text": 32, "sound": 16}
    with pytest.raises(CheckpointError, match="no model that is known"):
        open_source(folders["audioldm"])


def test_an_oobleck_is_read_alone_and_in_a_pipeline(tmp_path: Path) -> None:
    sizes = {"encoder_hidden_size": 8, "downsampling_ratios": [2, 4], "channel_multiples": [1, 2]}
    oobleck = AutoencoderOobleck(**sizes, decoder_channels=8, decoder_input_channels=4, sampling_rate=8000)
    oobleck = random(oobleck)
    oobleck.save_pretrained(tmp_path / "vae")
    stereo = sine(440, 0.1, 8000, channels=2)
    with torch.no_grad():
        theirs = oobleck.encode(torch.as_tensor(stereo.samples)[None]).latent_dist.mode()
        wave = oobleck.decode(theirs).sample
    for place in (tmp_path, tmp_path / "vae"):
        sound = open_parts("sound", [place])
        assert isinstance(sound, SoundModality) and sound.rate == 8000
        latent = sound.encode([stereo])
        assert latent.shape == (1, *sound.latent_shape(width=800)) == (1, 4, 100)
        torch.testing.assert_close(latent, theirs)
        made = torch.as_tensor(sound.decode(latent)[0].samples)
        torch.testing.assert_close(
            made, wave[0] * (made.abs().max() / wave.abs().max()).clamp(max=1), atol=1e-4, rtol=0
        )


@pytest.mark.parametrize(
    ("preset", "shape", "channels"),
    [(vd_sound(), (8, 256, 16), 320), (vd_sound_codi(), (8, 256, 16), 192), (vd_sound_hifi(), (64, 1024), 320)],
)
def test_presets_have_the_shapes_that_are_published(preset: Preset, shape: tuple[int, ...], channels: int) -> None:
    with torch.device("meta"):
        components = build(preset, [Flow.parse("text-to-sound"), Flow.parse("sound-to-image")])
    sound, diffuser = components.modalities["sound"], components.diffuser
    assert sound.latent_shape() == shape and sound.context_shape == (65, 768)
    assert diffuser.config["context_dims"] == {"text": 768, "sound": 768}
    sizes = [sum(p.numel() for p in layers.parameters()) for layers in diffuser.context_layers.values()]
    assert sizes[0] == sizes[1], "one can begin as the other"
    first = next(diffuser.data_layers["sound"].parameters())
    assert first.shape[:2] == (channels, shape[0])
    if shape == (8, 256, 16) and channels == 320:
        of_sound, of_image = (
            sum(p.numel() for p in diffuser.data_layers[name].parameters()) for name in ("sound", "image")
        )
        assert of_sound - of_image == 4 * 9 * 320 + 4 * (9 * 320 + 1), "but for the channels of latents the same"
