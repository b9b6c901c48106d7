"""Autoencoders and context encoders of sounds where others keep them: AudioLDM, AudioLDM 2, Oobleck and CLAP.

AudioLDM and AudioLDM 2 are folders of diffusers' pipelines: `vae` and `vocoder` make sounds, and `text_encoder` is the
half of CLAP that reads texts, or the whole. An Oobleck is a folder of diffusers' autoencoder, or `vae` in one of a
pipeline, such as Stable Audio's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from versatile_diffusion.checkpoints import parts
from versatile_diffusion.checkpoints.components import empty
from versatile_diffusion.checkpoints.diffusers_parts import sizes_of
from versatile_diffusion.checkpoints.encoder_part import (
    AUTOENCODER,
    CONTEXT_ENCODER,
    EncoderPart,
    FindPart,
    holds_tokenizer,
    read_tokenizer,
    stored_tensors,
)
from versatile_diffusion.checkpoints.errors import CheckpointError
from versatile_diffusion.checkpoints.folder import read_json
from versatile_diffusion.checkpoints.keys import Theirs, to_ours
from versatile_diffusion.checkpoints.tensors import Tensors
from versatile_diffusion.modalities import TextModality
from versatile_diffusion.modalities.sound_spec import SOUND
from versatile_diffusion.modalities.text_encoders import CLAP
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.modalities.vocabulary import Tokenizers

Reader = Callable[[Path], EncoderPart]

_CONFIG = "config.json"
_VAE, _VOCODER, _CLAP_OF_PIPELINE = "vae", "vocoder", "text_encoder"
_OOBLECK = "AutoencoderOobleck"
_LEFT_OUT = {
    SOUND.name: (r"text_(model|projection)\..*", r"logit_scale.*"),
    TEXT.name: (r"audio_(model|projection)\..*", r"logit_scale.*", r".*embeddings\.(position|token_type)_ids"),
}
"""The half of CLAP for the other modality, the temperature of its loss, and buffers of older transformers."""
_SPECTRUM_OF = {
    "rate": "sampling_rate",
    "window": "fft_window_size",
    "hop": "hop_length",
    "bands": "feature_size",
    "lowest": "frequency_min",
    "highest": "frequency_max",
}
"""What a `MelSpectrum` and a ClapFeatureExtractor call the same things."""


def recognises(folder: Path) -> bool:
    """Tells whether this is a folder of AudioLDM or AudioLDM 2, or holds an Oobleck."""
    return (folder / _VOCODER / _CONFIG).is_file() or _oobleck(folder) is not None


def find_in(folder: Path) -> FindPart:
    """Returns what finds the parts of such a folder."""
    clap = folder / _CLAP_OF_PIPELINE
    kind = read_json(clap / _CONFIG).get("model_type") if (clap / _CONFIG).is_file() else None

    def find(modality: str, name: str) -> EncoderPart | None:
        if name == CONTEXT_ENCODER:
            read = CLAP_READERS.get(str(kind), {}).get(modality)
            return None if read is None else read(clap)
        if modality != SOUND.name:
            return None
        oobleck = _oobleck(folder)
        return _audioldm(folder) if oobleck is None else _of_oobleck(oobleck)

    return find


def _oobleck(folder: Path) -> Path | None:
    """Where the Oobleck of a folder is, if it holds one."""
    places = [place for place in (folder, folder / _VAE) if (place / _CONFIG).is_file()]
    return next((place for place in places if read_json(place / _CONFIG).get("_class_name") == _OOBLECK), None)


def _audioldm(folder: Path) -> EncoderPart:
    from versatile_diffusion.modalities.sound import SoundModality
    from versatile_diffusion.modalities.sound_autoencoder import MelAutoencoder

    kl, vocoder = read_json(folder / _VAE / _CONFIG), sizes_of(read_json(folder / _VOCODER / _CONFIG))
    known = inspect.signature(AutoencoderKL.__init__).parameters
    config = {
        "kl": {name: value for name, value in kl.items() if name in known},
        "vocoder": vocoder,
        "spectrum": _spectrum_of(vocoder),
    }
    sound = empty(lambda: SoundModality(autoencoder=config, scaling_factor=kl.get("scaling_factor", 1.0)))
    assert isinstance(sound.autoencoder, MelAutoencoder)
    tensors: Tensors = parts.kl_tensors(sound.autoencoder.kl, "autoencoder.kl.", *stored_tensors(folder / _VAE))
    stored, where = stored_tensors(folder / _VOCODER)
    table = {key: Theirs(key) for key in sound.autoencoder.vocoder.state_dict()}
    tensors = {**tensors, **parts.under("autoencoder.vocoder.", to_ours(table, stored, where=where))}
    return EncoderPart(sound, AUTOENCODER, tensors, str(folder))


def _spectrum_of(vocoder: Mapping[str, Any]) -> dict[str, Any]:
    """The spectrum that a vocoder takes; its windows are AudioLDM's, of which nothing is written down."""
    hop, rate = 1, int(vocoder["sampling_rate"])
    for factor in vocoder["upsample_rates"]:
        hop *= factor
    return {"rate": rate, "hop": hop, "bands": vocoder["model_in_dim"], "highest": rate / 2}


def _of_oobleck(folder: Path) -> EncoderPart:
    from versatile_diffusion.modalities.sound import SoundModality

    config = {name: value for name, value in read_json(folder / _CONFIG).items() if not name.startswith("_")}
    sound = empty(lambda: SoundModality(autoencoder={"oobleck": config}, scaling_factor=1.0))
    stored, where = stored_tensors(folder)
    assert sound.autoencoder is not None
    prefix = "oobleck."
    table = {key: Theirs(key.removeprefix(prefix)) for key in sound.autoencoder.state_dict()}
    return EncoderPart(
        sound, AUTOENCODER, parts.under(f"{AUTOENCODER}.", to_ours(table, stored, where=where)), str(folder)
    )


def _clap_sound(folder: Path) -> EncoderPart:
    from versatile_diffusion.modalities.sound import SoundModality

    config = {**_half(folder, "audio_config"), **_features(folder)}
    sound = empty(lambda: SoundModality(context_encoder=config, projected=False))
    assert sound.context_encoder is not None
    tensors = _clap_tensors(sound.context_encoder.model.state_dict(), SOUND.name, folder)
    return EncoderPart(sound, CONTEXT_ENCODER, tensors, str(folder))


def _clap_text(folder: Path) -> EncoderPart:
    config = {**_half(folder, "text_config"), "model_type": CLAP}
    text = empty(lambda: TextModality(context_encoder=config, projected=False))
    places = [place for place in (folder, folder.parent / "tokenizer") if holds_tokenizer(place)]
    if not places:
        raise CheckpointError(f"{folder} has no tokenizer (tokenizer.json) beside CLAP. Download the whole folder.")
    text.tokenizers = Tokenizers(clap=read_tokenizer(places[0]))
    assert text.context_encoder is not None
    tensors = _clap_tensors(text.context_encoder.model.state_dict(), TEXT.name, folder)
    return EncoderPart(text, CONTEXT_ENCODER, tensors, str(folder))


def _clap_tensors(ours: Mapping[str, object], modality: str, folder: Path) -> Tensors:
    stored, where = stored_tensors(folder)
    table = {key: Theirs(key) for key in ours}
    return parts.under(parts.CLIP, to_ours(table, stored, left_out=_LEFT_OUT[modality], where=where))


def _half(folder: Path, name: str) -> dict[str, Any]:
    """The configuration of half of CLAP, alone or in that of the whole."""
    config = read_json(folder / _CONFIG)
    shared = {key: config[key] for key in ("projection_dim", "projection_hidden_act") if key in config}
    return {**sizes_of(config[name]), **shared} if name in config else sizes_of(config)


def _features(folder: Path) -> dict[str, Any]:
    """What CLAP hears, as a ClapFeatureExtractor beside it says; nothing where there is none."""
    places = (folder, folder.parent / "feature_extractor")
    file = next(
        (place / "preprocessor_config.json" for place in places if (place / "preprocessor_config.json").is_file()), None
    )
    if file is None:
        return {}
    told = read_json(file)
    spectrum = {ours: told[theirs] for ours, theirs in _SPECTRUM_OF.items() if theirs in told}
    return {
        "spectrum": {**spectrum, "slaney": told.get("truncation") != "fusion"},
        "seconds": told.get("max_length_s", 10),
    }


CLAP_READERS: Mapping[str, Mapping[str, Reader]] = {
    "clap": {SOUND.name: _clap_sound, TEXT.name: _clap_text},
    "clap_audio_model": {SOUND.name: _clap_sound},
    CLAP: {TEXT.name: _clap_text},
}
"""What reads the parts of a folder of CLAP, by the type of the model and the modality."""
