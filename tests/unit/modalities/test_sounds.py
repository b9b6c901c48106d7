"""Sounds as numbers and as files: rates, channels, loudness, formats, records, and what is no sound."""

import io
import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import chirp

from tests.unit.modalities.small_sound import sine
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.sound_files import FORMATS, encode_sound, read_record
from versatile_diffusion.modalities.sounds import LEVELS, Sound, read_sounds

CODEC = modality_spec("sound").codec


def decibels(error: np.ndarray, signal: np.ndarray) -> float:
    return float(10 * np.log10(np.square(error).mean() / np.square(signal).mean()))


@pytest.mark.parametrize(("before", "after"), [(44100, 16000), (8000, 16000), (48000, 44100), (22050, 48000)])
def test_sines_at_another_rate_are_those_sines(before: int, after: int) -> None:
    for frequency in (50, 440, 0.3 * min(before, after)):
        made, expected = sine(frequency, 1, before).resampled(after), sine(frequency, 1, after)
        assert made.samples.shape == expected.samples.shape
        inner = slice(after // 10, -after // 10)  # where no sound begins
        told, there = made.samples[0, inner].astype(float), expected.samples[0, inner].astype(float)
        assert decibels(told - there, there) < -80


def test_what_is_above_half_of_the_rate_is_gone() -> None:
    high = sine(9000, 1, 44100).resampled(16000).samples[0, 1600:-1600].astype(float)
    assert decibels(high, sine(9000, 1, 44100).samples) < -100


def test_a_sweep_at_another_rate_is_that_sweep() -> None:
    def sweep(rate: int) -> Sound:
        return Sound(0.5 * chirp(np.arange(2 * rate) / rate, 20, 2, 7000), rate)

    made, expected = sweep(48000).resampled(16000).samples[0], sweep(16000).samples[0]
    inner = slice(1600, -1600)
    assert decibels(made[inner].astype(float) - expected[inner], expected[inner]) < -90


def test_channels() -> None:
    stereo = sine(channels=2)
    assert np.allclose(stereo.with_channels(1).samples[0], stereo.samples.mean(0))
    assert np.array_equal(sine().with_channels(2).samples[1], sine().samples[0])
    assert stereo.with_channels(3).channels == 3 and stereo.in_length(10).size == (2, 10, 8000)
    assert stereo.in_length(9000).seconds == 9000 / 8000 and not stereo.in_length(9000).samples[:, 4000:].any()


def test_loudness_is_kept_below_full_scale() -> None:
    loud = Sound(3 * sine().samples, 8000)
    assert loud.at_full_scale().peak == pytest.approx((LEVELS - 1) / LEVELS)
    assert sine().at_full_scale().peak == pytest.approx(0.5, abs=1e-4)
    assert sine().at_loudness(-30).peak == pytest.approx(2**0.5 * 10**-1.5, rel=1e-3)
    assert sine().at_loudness(0).peak <= 1
    silent = Sound(np.zeros(10), 8000)
    assert not silent.at_loudness(-20).at_full_scale().samples.any()
    assert (
        np.clip(3 * sine().samples, -1, 1).max() == 1 and Sound(np.clip(3 * sine().samples, -1, 1), 8000).clipped > 0.5
    )
    assert sine().clipped == 0


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_files_hold_sounds_and_records(tmp_path: Path, suffix: str, channels: int) -> None:
    sound, file = sine(channels=channels, rate=16000), tmp_path / f"a{suffix}"
    record = {"prompt": "täglich", "long": "x" * (20_000 if suffix == ".opus" else 200_000)}
    file.write_bytes(encode_sound(sound, suffix, record))
    (read,) = read_sounds(file)
    rates = (16000, 48000) if suffix == ".opus" else (16000,)  # not every libsndfile decodes Opus at its own rate
    assert read.rate in rates and read.channels == channels and read_record(file.read_bytes()) == record
    if suffix in (".wav", ".flac"):
        assert np.array_equal(read.samples, sound.at_full_scale().samples)
    else:
        loud = np.percentile(np.abs(read.samples), 99)  # codecs overshoot at the ends
        assert abs(read.seconds - sound.seconds) < 0.2 and loud == pytest.approx(0.5, abs=0.1)
    CODEC.require(file)


def test_a_comment_lies_where_other_programs_find_it() -> None:
    content = encode_sound(sine(), ".wav", {"prompt": "a tent"})
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        assert json.loads(file.comment) == {"prompt": "a tent"}
    assert struct.unpack_from("<I", content, 4)[0] == len(content) - 8
    assert read_record(encode_sound(sine(), ".wav")) == {}


def test_many_rates_and_kinds_of_samples_are_read() -> None:
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"):
        for rate in (8000, 11025, 48000, 96000):
            content = io.BytesIO()
            soundfile.write(content, sine(rate=rate, seconds=0.1).samples.T, rate, subtype, format="WAV")
            read = CODEC.decode(content.getvalue())
            assert isinstance(read, Sound) and read.rate == rate and read.peak == pytest.approx(0.5, abs=0.02)


def test_values_hold_sounds_exactly() -> None:
    exact = sine().at_full_scale()
    for sound, size in ((exact, 2), (Sound(sine().samples / 3, 8000), 4), (Sound(-2 * sine().samples, 8000), 4)):
        (value,) = CODEC.values(sound)
        assert isinstance(value, torch.Tensor) and len(value) == 12 + size * sound.samples.size
        restored = CODEC.restored(value)
        assert isinstance(restored, Sound) and restored.rate == 8000 and np.array_equal(restored, sound)
    for wrong in ("a", torch.zeros(1, 4, 5, 5), torch.zeros(4, dtype=torch.uint8), torch.zeros(40, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="no value of a sound"):
            CODEC.restored(wrong)


def test_what_is_read_as_a_sound(tmp_path: Path) -> None:
    sine().save(tmp_path / "a.flac")
    given: list[Any] = [sine(), str(tmp_path / "a.flac"), tmp_path / "a.flac"]
    given += [{"array": [0.0, 0.5], "sampling_rate": 8000}, Sound(torch.zeros(2, 5), 8000)]
    assert [sound.rate for sound in read_sounds(given)] == [8000] * 5
    assert Sound(np.array([2**14, -(2**15)], np.int16), 8000).samples.tolist() == [[0.5, -1.0]]


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        ([], 8000, "at least one"),
        ([0.0, float("nan")], 8000, "no finite numbers"),
        ([float("inf")], 8000, "no finite numbers"),
        (np.zeros((4000, 2)), 8000, "channels come first"),
        (np.zeros((1, 2, 3)), 8000, r"\(channels n\)"),
        (np.zeros(3, np.uint8), 8000, "integers of 16 or 32 bits"),
        (np.zeros(3, complex), 8000, "real numbers"),
        (["a"], 8000, "real numbers"),
        ([0.0], 0, "samples a second"),
        ([0.0], 10**9, "samples a second"),
    ],
)
def test_what_is_no_sound(samples: Any, rate: int, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        Sound(samples, rate)


def long_wav(hours: float) -> bytes:
    """A file whose header promises hours of sound."""
    content, length = bytearray(encode_sound(sine(), ".wav")), round(hours * 3600 * 8000 * 2)
    content[40:44] = struct.pack("<I", length)
    return bytes(content)


WAV, FLAC = encode_sound(sine(), ".wav"), encode_sound(sine(), ".flac")
NAN = io.BytesIO()
soundfile.write(NAN, np.full(100, np.nan), 8000, "FLOAT", format="WAV")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "file is empty"),
        (WAV[:44], "cut off|empty"),
        (WAV[:-1000], "cut off"),
        (FLAC[: len(FLAC) // 2], "cut off|no sound that can be read"),
        (b"\0\0\0\x20ftypisom" + bytes(100), "video.*ffmpeg"),
        (b"\x1aE\xdf\xa3" + bytes(100), "video.*ffmpeg"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "no sound that can be read"),
        (NAN.getvalue(), "no finite numbers"),
    ],
)
def test_files_that_are_no_sound(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CODEC.decode(content)
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.wav.*({message})"):
        CODEC.read(tmp_path / "a.wav")


def test_long_sounds_are_found_before_they_are_decoded() -> None:
    with pytest.raises(ValueError, match="4000 samples is too long: 3999"):
        CODEC.decode(FLAC, most=3999)
    assert CODEC.measure(CODEC.decode(FLAC, most=4000)) == 4000
    with pytest.raises(ValueError, match=r"cut off|hours is too long"):
        CODEC.decode(long_wav(10))
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(1000 * 3601, np.int16), 1000, "PCM_S8", format="FLAC")
    with pytest.raises(ValueError, match=r"1\.0 hours is too long: cut out"):
        CODEC.decode(silence.getvalue())


def test_one_sample_is_a_sound() -> None:
    (one,) = read_sounds(Sound([0.5], 48000))
    assert one.resampled(16000).samples.shape == (1, 1) and one.seconds < 1e-4


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    monkeypatch.setitem(sys.modules, "soxr", None)
    for needs in (lambda: CODEC.decode(WAV), lambda: CODEC.encode(sine()), lambda: sine().resampled(16000)):
        with pytest.raises(ImportError, match=r"pip install 'versatile-diffusion\[sound\]'"):
            needs()
    assert read_record(WAV) == {}
    with pytest.raises(ValueError, match="holds a record"):
        read_record(b"words")
