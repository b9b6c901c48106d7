"""Autoencoders and context encoders of modalities, each from wherever it is stored, apart from any diffuser.

A source is a model of any layout, which may have several of them, a folder that transformers saved: CLIP, whole or one
of its halves, or T5; or one of `sound_sources`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from versatile_diffusion.checkpoints import diffusers_parts, encoder_keys, parts, sound_sources
from versatile_diffusion.checkpoints.components import Checkpoint, Wanted, empty, fill
from versatile_diffusion.checkpoints.encoder_part import (
    AUTOENCODER,
    CONTEXT_ENCODER,
    PARTS,
    EncoderPart,
    FindPart,
    holds_tokenizer,
    read_tokenizer,
    stored_tensors,
)
from versatile_diffusion.checkpoints.errors import CheckpointError, reading, shortened
from versatile_diffusion.checkpoints.folder import read_json
from versatile_diffusion.checkpoints.keys import to_ours
from versatile_diffusion.checkpoints.layouts import folder_reader
from versatile_diffusion.checkpoints.sources import locate, read_source
from versatile_diffusion.checkpoints.tensors import Tensors
from versatile_diffusion.checkpoints.vocabularies import read_tokenizers
from versatile_diffusion.modalities import ImageModality, Modality, TextModality
from versatile_diffusion.modalities.text_encoders import T5
from versatile_diffusion.modalities.vocabulary import Tokenizers

_CONFIG = "config.json"


def encoder_source(source: str | Path) -> FindPart:
    """Opens a source, and leaves the tensors on disk.

    Args:
        source: a model, as `open_source` takes it, or a folder or hub id of AudioLDM, AudioLDM 2 or an Oobleck, or of
            transformers' CLIP, CLAP or T5.

    Raises:
        CheckpointError: if it is neither.
        UnavailableError: if it has to come over the network and cannot.
    """
    place = locate(source)
    with reading(shortened(source)):
        if place.is_dir() and sound_sources.recognises(place):
            return sound_sources.find_in(place)
        if place.is_dir() and folder_reader(place) is None and (place / _CONFIG).is_file():
            return _of_transformers(place)
    return _of_model(read_source(place), str(source))


def open_parts(modality: str, sources: Sequence[str | Path], dtype: torch.dtype | None = None) -> Modality:
    """Opens a modality whose autoencoder and context encoder come from wherever they are.

    Args:
        modality: its name.
        sources: see `encoder_source`; each part comes from the first that has it.
        dtype: of the floating-point numbers; as they are stored by default.

    Raises:
        CheckpointError: if no source has a part of that modality.
    """
    finders = [encoder_source(source) for source in sources]
    parts_of = {name: next((part for find in finders if (part := find(modality, name))), None) for name in PARTS}
    found = {name: part for name, part in parts_of.items() if part is not None}
    if not found:
        raise CheckpointError(f"There is nothing of the modality {modality!r:.100} in {', '.join(map(str, sources))}.")
    modalities, tensors = assembled({modality: found})
    with reading(", ".join(map(str, sources))):
        fill(modalities[modality], tensors[modality], dtype)
    return modalities[modality]


def assembled(found: Mapping[str, Mapping[str, EncoderPart]]) -> tuple[dict[str, Modality], dict[str, Tensors]]:
    """Puts modalities together from their parts.

    Args:
        found: the parts of each modality, by their names.

    Returns:
        The modalities, without weights but with their assets, and what they are to be filled with.
    """
    modalities: dict[str, Modality] = {}
    tensors: dict[str, Tensors] = {}
    for name, of in found.items():
        arguments = {key: value for part in of.values() for key, value in part.arguments.items()}
        cls = type(next(iter(of.values())).modality)
        modality = modalities[name] = empty(partial(cls, **arguments))
        tensors[name] = {key: tensor for part in of.values() for key, tensor in part.tensors.items()}
        if isinstance(modality, TextModality):
            modality.tokenizers = _tokenizers_of(of)
    return modalities, tensors


def _of_model(checkpoint: Checkpoint, source: str) -> FindPart:
    def find(modality: str, name: str) -> EncoderPart | None:
        held = checkpoint.modalities.get(modality)
        if held is None or getattr(held, name) is None:
            return None
        tensors = checkpoint.tensors[modality]
        own = {key: tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
        return EncoderPart(held, name, own, source)

    return find


def _of_transformers(folder: Path) -> FindPart:
    kind = read_json(folder / _CONFIG).get("model_type")
    readers: Mapping[str, Mapping[str, Callable[[Path], EncoderPart]]] = {
        "clip": {"image": _clip_image, "text": _clip_text},
        "clip_vision_model": {"image": _clip_image},
        "clip_text_model": {"text": _clip_text},
        T5: {"text": _t5},
        **sound_sources.CLAP_READERS,
    }
    if kind not in readers:
        raise CheckpointError(
            f"{folder} holds {f'a model of the type {kind!r}' if kind else 'no model'}, and of transformers' only "
            f"{', '.join(readers)} can encode contexts here. Pass a folder of one of these, or of a whole model."
        )

    def find(modality: str, name: str) -> EncoderPart | None:
        read = readers[kind].get(modality)
        return read(folder) if name == CONTEXT_ENCODER and read is not None else None

    return find


def _clip_image(folder: Path) -> EncoderPart:
    config = _half(folder, "vision_config")
    image = empty(lambda: ImageModality(context_encoder=config))
    return EncoderPart(image, CONTEXT_ENCODER, parts.clip(image, *stored_tensors(folder)), str(folder))


def _clip_text(folder: Path) -> EncoderPart:
    stored, where = stored_tensors(folder)
    projected = any(key.endswith("text_projection.weight") for key in stored)
    config = _half(folder, "text_config")
    text = empty(lambda: TextModality(context_encoder=config, projected=projected))
    places = [place for place in (folder, folder.parent / "tokenizer") if holds_tokenizer(place)]
    if places:
        text.tokenizers = Tokenizers(clip=read_tokenizer(places[0]))
    else:
        text.tokenizers = read_tokenizers(folder, Wanted((), ("text",)))
    return EncoderPart(text, CONTEXT_ENCODER, parts.clip(text, stored, where), str(folder))


def _t5(folder: Path) -> EncoderPart:
    config = {"model_type": T5, **diffusers_parts.clip_config(folder)}
    text = empty(lambda: TextModality(context_encoder=config))
    if not holds_tokenizer(folder):
        raise CheckpointError(f"{folder} has no tokenizer (tokenizer.json) beside T5. Download it from the same place.")
    text.tokenizers = Tokenizers(t5=read_tokenizer(folder))
    encoder = text.context_encoder
    assert encoder is not None
    stored, where = stored_tensors(folder)
    table = encoder_keys.t5(encoder.model.state_dict(), stored)
    tensors = to_ours(table, stored, left_out=encoder_keys.T5_LEFT_OUT, where=where)
    return EncoderPart(
        text, CONTEXT_ENCODER, {parts.CLIP + key: tensor for key, tensor in tensors.items()}, str(folder)
    )


def _half(folder: Path, name: str) -> dict[str, Any]:
    """The configuration of half of CLIP, alone or in that of the whole."""
    config = read_json(folder / _CONFIG)
    if name not in config:
        return diffusers_parts.sizes_of(config)
    return {**diffusers_parts.sizes_of(config[name]), "projection_dim": config.get("projection_dim", 512)}


def _tokenizers_of(parts: Mapping[str, EncoderPart]) -> Tokenizers:
    """Those of the context encoder and those of the autoencoder, each from where that comes from."""
    held = {name: part.modality.tokenizers for name, part in parts.items() if isinstance(part.modality, TextModality)}
    contexts, texts = held.get(CONTEXT_ENCODER, Tokenizers()), held.get(AUTOENCODER, Tokenizers())
    return Tokenizers(contexts.clip, texts.bert, texts.gpt2, contexts.t5, contexts.clap)
