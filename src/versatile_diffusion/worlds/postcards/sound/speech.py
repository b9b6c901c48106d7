"""Words spoken by eSpeak NG, through its C interface; `espeakng-loader` brings the library and its voices."""

from __future__ import annotations

import _ctypes
import ctypes
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from versatile_diffusion.extras import extra
from versatile_diffusion.modalities.sounds import Sound
from versatile_diffusion.worlds.postcards.sound.waves import RATE, Wave

_SYNCHRONOUS, _UTF8 = 2, 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4  # espeak_PARAMETER
_SYNTHESIZED = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """How words are spoken.

    Attributes:
        name: of eSpeak NG's voice with its variant, such as "en-us+f2".
        words_per_minute: how quickly.
        pitch: from 0 to 99.
        pitch_range: how far the melody moves, from 0 to 99.
    """

    name: str
    words_per_minute: int = 150
    pitch: int = 50
    pitch_range: int = 50


def speak(words: str, voice: Voice) -> Wave:
    """Returns words as eSpeak NG says them, at `RATE`.

    The library is loaded anew each time: the flutter of its voices would go on from the words before, and equal words
    would differ.

    Raises:
        ImportError: if eSpeak NG is not installed; it says what to install.
        ValueError: if there is no such voice.
    """
    with extra("postcards", "a voice that speaks"):
        import espeakng_loader  # pyright: ignore[reportMissingTypeStubs]
    loader = cast(Any, espeakng_loader)
    library = ctypes.CDLL(loader.get_library_path())
    try:
        spoken, rate = _spoken(library, str(loader.get_data_path()).encode(), words, voice)
    finally:
        _unload(library)
    return Sound(spoken, rate).resampled(RATE).samples[0].astype(float)


def _spoken(library: Any, data: bytes, words: str, voice: Voice) -> tuple[NDArray[np.int16], int]:
    """The samples, and their rate."""
    parts: list[NDArray[np.int16]] = []

    def take(samples: Any, count: int, _: object) -> int:
        if samples and count > 0:
            parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    taken = _SYNTHESIZED(take)  # kept until all is said, since C holds no reference
    rate = int(library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0))
    library.espeak_SetSynthCallback(taken)
    if library.espeak_SetVoiceByName(voice.name.encode()):
        raise ValueError(f"eSpeak NG has no voice {voice.name}.")
    settings = {_RATE: voice.words_per_minute, _PITCH: voice.pitch, _RANGE: voice.pitch_range, _VOLUME: 100}
    for setting, value in settings.items():
        library.espeak_SetParameter(setting, value, 0)
    text = words.encode()
    library.espeak_Synth(text, len(text) + 1, 0, 0, 0, _UTF8, None, None)
    library.espeak_Terminate()
    return np.concatenate(parts), rate


def _unload(library: Any) -> None:
    unload = getattr(_ctypes, "dlclose", None) or getattr(_ctypes, "FreeLibrary")  # noqa: B009 - of Windows alone
    unload(library._handle)
