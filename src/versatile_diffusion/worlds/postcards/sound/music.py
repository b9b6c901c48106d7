"""A motif on an instrument of General MIDI for each style: `midirenderer` plays the font of `pretty_midi`."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from versatile_diffusion.extras import extra
from versatile_diffusion.worlds.postcards.sound.waves import RATE, Wave, without_rumble

Note = tuple[float, float, int]
"""Beginning and length in beats, and the pitch as MIDI counts it."""
SCALE = (0, 2, 4, 7, 9)
TICKS = 480


@dataclass(frozen=True)
class Instrument:
    """Who plays, and how.

    Attributes:
        program: of General MIDI, from 0.
        lowest: pitch that its tunes are built on.
        tune: makes the notes, of the keynote.
    """

    program: int
    lowest: int
    tune: Callable[[np.random.Generator, int], Sequence[Note]]


def _pitch(key: int, step: int) -> int:
    """A step of the pentatonic scale."""
    return key + 12 * (step // len(SCALE)) + SCALE[step % len(SCALE)]


def _strummed(rng: np.random.Generator, key: int) -> list[Note]:
    chords = [(0, 7, 12, 16, 19), (-3, 4, 9, 12, 16), (5, 12, 17, 21), (-5, 2, 7, 11, 14)]
    picked: list[int] = rng.permutation(len(chords))[:2].tolist()
    return [(1.1 * i + 0.06 * k, 1.4, key + n) for i, c in enumerate(picked) for k, n in enumerate(chords[c])]


def _bowed(rng: np.random.Generator, key: int) -> list[Note]:
    steps = rng.integers(0, 5, 3)
    return [(0.85 * i, 0.95, _pitch(key, int(step))) for i, step in enumerate(steps)]


def _ticked(rng: np.random.Generator, key: int) -> list[Note]:
    steps = np.cumsum(rng.choice((-2, -1, 1, 2), 5)) + 3
    return [(0.45 * i, 0.22, _pitch(key, int(step))) for i, step in enumerate(steps)]


def _bleeped(rng: np.random.Generator, key: int) -> list[Note]:
    steps = rng.choice((0, 2, 4, 5, 7), 8)
    return [(0.27 * i, 0.2, _pitch(key, int(step))) for i, step in enumerate(steps)]


def _swept(rng: np.random.Generator, key: int) -> list[Note]:
    up = np.arange(12) if rng.random() < 0.6 else np.arange(12)[::-1]
    return [(0.15 * i, 1.5, _pitch(key, int(step))) for i, step in enumerate(up + rng.integers(0, 3))]


INSTRUMENTS: Mapping[str, Instrument] = {
    "postcard": Instrument(24, 48, _strummed),  # guitar
    "oil painting": Instrument(42, 41, _bowed),  # cello
    "pencil sketch": Instrument(0, 67, _ticked),  # piano
    "pixel art": Instrument(80, 60, _bleeped),  # square wave
    "watercolor": Instrument(46, 55, _swept),  # harp
}


def motif(style: str, rng: np.random.Generator) -> Wave:
    """Returns a motif of about a second and a half for a style, at `RATE`.

    Raises:
        ImportError: if what plays it is not installed; it says what to install.
    """
    instrument = INSTRUMENTS[style]
    key = instrument.lowest + int(rng.integers(0, 8))
    notes, beat = instrument.tune(rng, key), rng.uniform(0.44, 0.56)
    return _played(instrument.program, [(start * beat, length * beat, pitch) for start, length, pitch in notes], rng)


def _played(program: int, notes: Sequence[Note], rng: np.random.Generator) -> Wave:
    """Notes, whose times are in seconds, as an instrument plays them."""
    from versatile_diffusion.modalities.sound_files import open_sound

    with extra("postcards", "music"):
        import midirenderer  # pyright: ignore[reportMissingTypeStubs]
    made = cast(Any, midirenderer).render_wave_from(_font(), _midi(program, notes, rng))
    return without_rumble(open_sound(made).with_channels(1).resampled(RATE).samples[0].astype(float))


def _midi(program: int, notes: Sequence[Note], rng: np.random.Generator) -> bytes:
    with extra("postcards", "music"):
        import mido  # pyright: ignore[reportMissingTypeStubs]
    messages: Any = cast(Any, mido)
    per_second = TICKS * 2  # at the tempo that MIDI takes where none is said
    events = [(round(at * per_second), "note_on", pitch, int(rng.integers(78, 108))) for at, _, pitch in notes]
    events += [(round((at + length) * per_second), "note_off", pitch, 0) for at, length, pitch in notes]
    track = messages.MidiTrack([messages.Message("program_change", program=program)])
    now = 0
    for at, kind, pitch, velocity in sorted(events):
        track.append(messages.Message(kind, note=pitch, velocity=velocity, time=at - now))
        now = at
    file = io.BytesIO()
    messages.MidiFile(type=0, ticks_per_beat=TICKS, tracks=[track]).save(file=file)
    return file.getvalue()


@cache
def _font() -> bytes:
    with extra("postcards", "music"):
        import pretty_midi  # pyright: ignore[reportMissingTypeStubs]
    return (Path(cast(Any, pretty_midi).__file__).parent / "TimGM6mb.sf2").read_bytes()
