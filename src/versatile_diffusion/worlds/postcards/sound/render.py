"""From a scene to its sound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from versatile_diffusion.extras import require
from versatile_diffusion.modalities.sounds import Sound
from versatile_diffusion.worlds.postcards.data import Scene
from versatile_diffusion.worlds.postcards.sound.ambience import ambience
from versatile_diffusion.worlds.postcards.sound.music import motif
from versatile_diffusion.worlds.postcards.sound.speech import Voice, speak
from versatile_diffusion.worlds.postcards.sound.waves import (
    LENGTH,
    RATE,
    SECONDS,
    Stereo,
    Wave,
    at_level,
    faded,
    placed,
    times,
)

ENGINES = ("espeakng_loader", "midirenderer", "mido", "pretty_midi", "soundfile", "soxr")
"""Libraries that rendering needs, and nothing else."""

VOICES = (
    *("en-us", "en-us+m1", "en-us+m2", "en-us+m3", "en-us+m4", "en-us+m5", "en-us+m6", "en-us+m8"),
    *("en-us+f1", "en-us+belinda", "en-us+ed", "en-us+john"),
    *("en-gb-x-rp+m6", "en-gb-x-rp+f1", "en-gb-x-rp+belinda", "en-gb-x-rp+ed"),
)
"""Those of eSpeak NG that are understood well, and say the same words the same way each time."""
SIDES = {"left": (1.0, 0.12), "middle": (0.75, 0.75), "right": (0.12, 1.0)}
"""How loud the voice is on the left and on the right."""
VOICE, MUSIC, PLACE, WEATHER, TIME = -16.5, -24.0, -29.0, -32.0, -30.0
"""How loud each component is, in decibels of full scale."""
MUSIC_UNTIL, VOICE_FROM = 1.4, 1.4
"""Seconds: first the music, which fades, and then the voice."""
DUCKED = 0.22
"""How loud the ambience is under the voice."""
HIGHEST = 0.89
"""The peak of a clip at most: 1 dB below full scale."""


@dataclass(frozen=True)
class ClipComponents:
    """What a clip is mixed of, each at its level.

    Attributes:
        voice: says the colour and the subject, on the side of the position.
        music: for the style.
        place, weather, time: the ambience.
    """

    voice: Stereo
    music: Stereo
    place: Stereo
    weather: Stereo
    time: Stereo

    def mixed(self) -> Sound:
        """Returns all of them together."""
        mix = self.voice + self.music + self.place + self.weather + self.time
        mix = mix * min(1.0, HIGHEST / np.abs(mix).max())
        return Sound(np.stack([faded(channel, 0.01) for channel in mix]), RATE).at_full_scale()


def require_engines() -> None:
    """Raises ImportError, which says what to install, unless all is there that rendering needs."""
    for engine in ENGINES:
        require(engine, "The sound of postcards", "postcards")


def render_sound(scene: Scene) -> Sound:
    """Returns the scene's sound: stereo, `SECONDS` long at `RATE`, the same for equal scenes.

    Raises:
        ImportError: if an engine is missing; it says what to install.
    """
    return render_components(scene).mixed()


def render_components(scene: Scene) -> ClipComponents:
    """Returns what the sound of a scene is mixed of; see `render_sound`."""
    require_engines()
    rng = np.random.default_rng((scene.seed, 10))
    spoken = _voice(scene, rng)
    voice_at = rng.uniform(VOICE_FROM, max(VOICE_FROM, SECONDS - 0.08 - len(spoken) / RATE))
    tune = motif(scene.style, np.random.default_rng((scene.seed, 14)))
    place, weather, time = ambience(scene.place, scene.weather, scene.time, scene.seed)
    said = placed([(voice_at, at_level(spoken, _near(VOICE, rng)))])
    played = placed([(rng.uniform(0, 0.15), at_level(tune, _near(MUSIC, rng)))])
    room = _room_for_voice(voice_at, len(spoken) / RATE)
    return ClipComponents(
        np.stack([gain * said for gain in SIDES[scene.position]]),
        _wide(played * np.interp(times(SECONDS), (MUSIC_UNTIL - 0.3, MUSIC_UNTIL), (1, 0)), rng),
        _wide(at_level(place, _near(PLACE, rng)) * room, rng),
        _wide(at_level(weather, _near(WEATHER, rng)) * room, rng) if weather.any() else np.zeros((2, LENGTH)),
        _wide(at_level(time, _near(TIME, rng)) * room, rng),
    )


def _voice(scene: Scene, rng: np.random.Generator) -> Wave:
    voice = Voice(
        VOICES[rng.integers(len(VOICES))],
        words_per_minute=int(rng.integers(125, 175)),
        pitch=int(rng.integers(25, 75)),
        pitch_range=int(rng.integers(30, 70)),
    )
    spoken = speak(f"{scene.color} {scene.subject}", voice)
    heard = np.flatnonzero(np.abs(spoken) > 0.01)
    return faded(spoken[heard[0] : heard[-1] + 1], 0.004)


def _room_for_voice(at: float, seconds: float) -> Wave:
    """How loud the ambience is at each time: it makes room for the voice, as on the radio."""
    points = (at - 0.15, at, at + seconds, at + seconds + 0.15)
    return np.interp(times(SECONDS), points, (1, DUCKED, DUCKED, 1))


def _near(decibels: float, rng: np.random.Generator) -> float:
    return decibels + rng.uniform(-2, 2)


def _wide(wave: Wave, rng: np.random.Generator) -> Stereo:
    """A component about in the middle: one channel comes a little later and quieter, either one."""
    lag, side = int(rng.integers(0, 12)), rng.integers(2)
    pair = np.stack([wave, 0.9 * np.concatenate([np.zeros(lag), wave[: len(wave) - lag]])])
    return pair[::-1] if side else pair
