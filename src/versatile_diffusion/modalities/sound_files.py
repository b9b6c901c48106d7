"""Sounds as files: what libsndfile reads and writes, and the record of how they were made, as the comment of a file.

Nothing here imports PyTorch, so that a server can check what it is sent.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from versatile_diffusion.extras import extra
from versatile_diffusion.files import quoted, require_file
from versatile_diffusion.modalities.sound_spec import LONGEST
from versatile_diffusion.modalities.sounds import LEVELS, MOST_CHANNELS, Sound

if TYPE_CHECKING:
    from soundfile import SoundFile  # pyright: ignore[reportMissingTypeStubs]

FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
"""What is written for each suffix: the format and the kind of samples, as soundfile calls them."""
_RATES = {
    "OPUS": (8000, 12000, 16000, 24000, 48000),
    "MPEG_LAYER_III": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
}
"""Rates of the kinds that have few; a sound of another one is written at the next higher."""
_MOST_IN_OPUS = 30_000
"""Characters of a comment, with a longer one of which libsndfile writes files of Opus that nobody can read."""
_TAGGED = (b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3")
"""How files begin whose comments libsndfile reads, besides WAV."""
_BLOCK = 2**20
_HEADER = struct.Struct("<III")  # rate, channels, bits


def open_sound(source: bytes | Path, most: int | None = None) -> Sound:
    """Returns the sound in a file, or in its content, which anybody may have sent.

    Args:
        source: the path of a file, or its whole content.
        most: samples that all channels may have together. They are counted before they are decoded.

    Raises:
        ImportError: if soundfile is not installed; says what to install.
        ValueError: if it is no sound that libsndfile reads, is damaged, or too long.
    """
    with _opened(source) as file:
        _require_short(file, most)
        found = file.read(frames=file.frames, dtype="float32", always_2d=True)
        rate, promised = file.samplerate, file.frames
    if len(found) < promised or _ends_early(source):
        raise ValueError("The sound is cut off: its file is shorter than it says. Send the whole file.")
    return Sound(found.T, rate)


def require_sound(path: Path) -> None:
    """Raises ValueError unless a file holds a sound, as far as its beginning tells."""
    require_file(path)
    try:
        with _opened(path) as file:
            _require_short(file, None)
    except ValueError as error:
        raise ValueError(f"Cannot read {quoted(path)}: {error}") from error


def encode_sound(sound: Sound, suffix: str, record: Mapping[str, str] | None = None) -> bytes:
    """Returns the content of a file of a sound. What is louder than full scale becomes as quiet as it has to be.

    Args:
        sound: what to write.
        suffix: one of `FORMATS`.
        record: how it was made, which becomes the comment of the file.

    Raises:
        ImportError: if soundfile is not installed; says what to install.
        ValueError: if there is no such format, or it takes no such sound; the message says what would do.
    """
    if suffix not in FORMATS:
        raise ValueError(f"Sounds are written as {', '.join(FORMATS)}, not {suffix or 'without a suffix'}.")
    kind, subtype = FORMATS[suffix]
    rates = _RATES.get(subtype, (sound.rate,))
    sound = sound.resampled(next((rate for rate in rates if rate >= sound.rate), rates[-1]))
    content = io.BytesIO()
    with extra("sound", "a file of a sound"):
        import soundfile  # pyright: ignore[reportMissingTypeStubs]
    try:
        with soundfile.SoundFile(content, "w", sound.rate, sound.channels, subtype, format=kind) as file:
            comment = json.dumps(dict(record or {}))
            if record and kind != "WAV" and not (subtype == "OPUS" and len(comment) > _MOST_IN_OPUS):
                cast(Any, file).comment = comment
            scaled = np.ascontiguousarray(sound.at_full_scale().samples.T)
            for start in range(0, len(scaled), _BLOCK):  # Vorbis of libsndfile fails at long writes
                file.write(scaled[start : start + _BLOCK])
    except soundfile.LibsndfileError as error:
        raise ValueError(f"A {kind} file cannot hold {sound.channels} channels at {sound.rate} Hz: {error}") from error
    return _with_comment(content.getvalue(), record) if record and kind == "WAV" else content.getvalue()


def read_record(content: bytes) -> dict[str, str]:
    """Returns what the comment of a file holds of how it was made; nothing if there is none.

    Raises:
        ValueError: if it is no sound.
    """
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        comment = _comment_of(content)
    elif content.startswith(_TAGGED):
        comment = _tag_of(content)
    else:
        raise ValueError("It is no sound that holds a record: WAV, FLAC, OGG and MP3 files do.")
    try:
        told: object = json.loads(comment)
    except (ValueError, RecursionError):
        return {}
    return {key: value for key, value in told.items() if isinstance(value, str)} if isinstance(told, dict) else {}  # pyright: ignore


def packed(sound: Sound) -> bytes:
    """Returns the bytes of a sound: rate, channels and bits, then its samples, in 16 bits if these hold it exactly."""
    levels = sound.samples * LEVELS
    exact = bool((np.round(levels) == levels).all() and levels.min() >= -LEVELS and levels.max() < LEVELS)
    values = levels.astype("<i2") if exact else sound.samples.astype("<f4")
    return _HEADER.pack(sound.rate, sound.channels, 8 * values.itemsize) + values.tobytes()


def unpacked(content: bytes) -> Sound:
    """Returns the sound that `packed` made these bytes of.

    Raises:
        ValueError: if it did not.
    """
    if len(content) <= _HEADER.size:
        raise ValueError("This is no value of a sound: it is too short.")
    rate, channels, bits = _HEADER.unpack_from(content)
    if bits not in (16, 32) or not 1 <= channels <= MOST_CHANNELS:
        raise ValueError("This is no value of a sound: it has no such samples.")
    values = np.frombuffer(content, "<i2" if bits == 16 else "<f4", offset=_HEADER.size)
    return Sound(values.reshape(channels, -1), rate)


@contextmanager
def _opened(source: bytes | Path) -> Generator[SoundFile]:
    with extra("sound", "a file of a sound"):
        import soundfile  # pyright: ignore[reportMissingTypeStubs]
    try:
        with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            yield file
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise ValueError(_why(source, error)) from error


def _require_short(file: SoundFile, most: int | None) -> None:
    """Finds by its header what is too long, or has nothing in it."""
    if file.frames < 1:
        raise ValueError("The sound is empty: there are no samples in it.")
    if most is not None and file.frames * file.channels > most:
        raise ValueError(f"A sound of {file.frames * file.channels} samples is too long: {most} are left for it.")
    if file.frames > LONGEST * file.samplerate:
        hours = file.frames / file.samplerate / 3600
        raise ValueError(f"A sound of {hours:.1f} hours is too long: cut out a part of at most {LONGEST} seconds.")


def _why(source: bytes | Path, error: Exception) -> str:
    """Why something cannot be read, and what to do."""
    if isinstance(source, bytes):
        start, empty = source[:16], not source
    else:
        with source.open("rb") as file:
            start = file.read(16)
        empty = not start
    if empty:
        return "The file is empty."
    if start[4:8] == b"ftyp" or start[:4] in (b"\x1aE\xdf\xa3", b"FLV\x01") or start[8:12] == b"AVI ":
        return "It is a video, or a sound in the container of one: take its sound out first, ffmpeg -i FILE sound.wav."
    return f"It is no sound that can be read ({str(error).rstrip('.'):.200}): WAV, FLAC, OGG or MP3 would do."


def _ends_early(source: bytes | Path) -> bool:
    """Whether a WAV file is shorter than the length of its samples says, of which libsndfile tells nothing."""
    content = source if isinstance(source, bytes) else source.read_bytes()
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return False
    for name, start, length in _chunks(content):
        if name == b"data":
            streamed = length >= 2**31 - 1 or length == 0  # written before its length was known
            return not streamed and start + length > len(content)
    return False


def _with_comment(content: bytes, record: Mapping[str, str]) -> bytes:
    """A WAV file with a comment as other programs read and keep it: ICMT in a LIST of INFO, behind the samples.

    libsndfile would write it before them, and has no room there for a record with its inputs.
    """
    text = json.dumps(dict(record)).encode() + b"\0"
    entry = b"INFO" + _chunk(b"ICMT", text)
    body = content[8:] + b"\0" * (len(content) % 2) + _chunk(b"LIST", entry)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _comment_of(content: bytes) -> str:
    """The comment of a WAV file."""
    for name, start, length in _chunks(content):
        if name == b"LIST" and content[start : start + 4] == b"INFO":
            for inner, begin, size in _chunks(content[: start + length], start + 4):
                if inner == b"ICMT":
                    return content[begin : begin + size].rstrip(b"\0").decode(errors="replace")
    return ""


def _chunks(content: bytes, start: int = 12) -> Generator[tuple[bytes, int, int]]:
    """Names, places and lengths of the chunks of a WAV file."""
    while start + 8 <= len(content):
        name, length = struct.unpack_from("<4sI", content, start)
        yield name, start + 8, length
        start += 8 + length + length % 2


def _tag_of(content: bytes) -> str:
    with _opened(content) as file:
        return str(cast(Any, file).comment)
