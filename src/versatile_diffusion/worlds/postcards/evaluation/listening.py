"""An ear that nothing here was trained with: PocketSphinx, which reads the voice of a postcard's sound.

Its model of English comes with its package. It is told the 36 phrases that a voice can say, a colour and a subject, and
answers with the one it takes the sound for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Float32
from rich.progress import track

from versatile_diffusion.evaluation.attribute_scores import Attributes, score
from versatile_diffusion.extras import extra
from versatile_diffusion.modalities.sounds import LEVELS, Sound
from versatile_diffusion.worlds.postcards.data import ATTRIBUTES, Scene
from versatile_diffusion.worlds.postcards.sound.render import VOICE_FROM

SPOKEN = ("color", "subject")
"""What a voice says, in this order."""
_RATE = 16_000
_FROM = VOICE_FROM - 0.15  # seconds
_FRAME, _AROUND = 320, 2400  # samples
_QUIET = 0.4
"""How loud a moment of speech is at least, as a share of the loudest."""


@dataclass(frozen=True)
class HeardVoices:
    """How often the ear understood, as shares in [0, 1].

    Attributes:
        phrase: colour and subject, both.
        color, subject: each of them.
        chance: of a phrase that is guessed.
    """

    phrase: float
    color: float
    subject: float
    chance: float = 1 / (len(ATTRIBUTES["color"]) * len(ATTRIBUTES["subject"]))


def hear_voice(sound: Sound) -> dict[str, str]:
    """Returns the colour and the subject that PocketSphinx hears; nothing if it hears no phrase.

    Raises:
        ImportError: if PocketSphinx is not installed; it says what to install.
    """
    samples = _prepared(sound.with_channels(1).resampled(_RATE).samples[0])
    decoder = _decoder()
    decoder.start_utt()
    decoder.process_raw((samples.clip(-1, 1) * (LEVELS - 1)).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    words: list[str] = found.hypstr.split() if found else []
    return dict(zip(SPOKEN, words, strict=True)) if len(words) == len(SPOKEN) else {}


def heard_voices(sounds: Iterable[Sound], scenes: Sequence[Scene]) -> HeardVoices:
    """Returns how often PocketSphinx understands the voices of sounds.

    Args:
        sounds: one of each scene, rendered or generated.
        scenes: what they should say.
    """
    heard = [hear_voice(sound) for sound in track(sounds, "listening", total=len(scenes), transient=True)]
    truths: list[Attributes] = [{name: scene.attributes[name] for name in SPOKEN} for scene in scenes]
    both = sum(found == truth for found, truth in zip(heard, truths, strict=True)) / len(scenes)
    each = score(truths, heard, SPOKEN).per_attribute
    return HeardVoices(both, each["color"] or 0.0, each["subject"] or 0.0)


def _prepared(samples: Float32[np.ndarray, "n"]) -> Float32[np.ndarray, "m"]:
    """The part in which a voice speaks: from the first to the last moment that is nearly as loud as the loudest.

    What is around would be taken for speech, and complete silence confuses PocketSphinx, so a little noise is added.
    """
    padded = np.pad(samples, (0, max(0, _FRAME - len(samples))))
    late = padded[min(round(_FROM * _RATE), max(0, len(padded) - _RATE)) :]
    frames = late[: len(late) // _FRAME * _FRAME].reshape(-1, _FRAME)
    levels = np.sqrt(np.square(frames).mean(axis=1))
    loud = np.flatnonzero(levels >= _QUIET * levels.max()) * _FRAME
    said = late[max(0, loud[0] - _AROUND) : loud[-1] + _FRAME + _AROUND]
    said = np.pad(said, _AROUND)
    return said + np.random.default_rng(0).normal(0, 3e-4, len(said)).astype(np.float32)


@cache
def _decoder() -> Any:
    with extra("listen", "an ear for voices"):
        pocketsphinx: Any = import_module("pocketsphinx")
    decoder = pocketsphinx.Decoder(lm=None, samprate=_RATE, loglevel="FATAL")
    colors, subjects = ("|".join(ATTRIBUTES[name]) for name in SPOKEN)
    decoder.add_jsgf_string("phrases", f"#JSGF V1.0; grammar phrases; public <phrase> = ({colors}) ({subjects});")
    decoder.activate_search("phrases")
    return decoder
