from dataclasses import replace

import numpy as np
import pytest

from tests.unit.worlds.postcards.engines import needs_engines
from versatile_diffusion.worlds.postcards.data import ATTRIBUTES, Scene
from versatile_diffusion.worlds.postcards.sound import RATE, SECONDS, render_components, render_sound
from versatile_diffusion.worlds.postcards.sound import render as rendering
from versatile_diffusion.worlds.postcards.sound.ambience import ambience
from versatile_diffusion.worlds.postcards.sound.waves import level

SCENE = Scene("sea", "night", "rain", "windmill", "blue", "left", "watercolor", seed=4)


def spectrum(wave: np.ndarray) -> np.ndarray:
    return np.square(np.abs(np.fft.rfft(wave)))


@needs_engines
def test_equal_scenes_sound_the_same_whatever_was_said_before() -> None:
    first = render_sound(SCENE)
    other = render_sound(replace(SCENE, seed=5))
    assert np.array_equal(render_sound(SCENE).samples, first.samples)
    assert not np.allclose(other.samples, first.samples, atol=0.01)
    assert first.size == (2, round(SECONDS * RATE), RATE) and 0.1 < first.peak < 0.9 and not first.clipped


@needs_engines
@pytest.mark.parametrize("position", ATTRIBUTES["position"])
def test_the_voice_is_on_the_side_of_the_subject_and_above_the_rest(position: str) -> None:
    parts = render_components(replace(SCENE, position=position))
    left, right = (level(channel) for channel in parts.voice)
    assert np.sign(round(left - right, 6)) == {"left": 1, "middle": 0, "right": -1}[position]
    said = np.abs(parts.voice).sum(0) > 0.02
    around = parts.music + parts.place + parts.weather + parts.time
    assert np.square(parts.voice[:, said]).mean() > 10 * np.square(around[:, said]).mean()


@needs_engines
@pytest.mark.parametrize("attribute", ["place", "time", "weather", "style"])
def test_each_value_is_another_sound(attribute: str) -> None:
    part = {"style": "music"}.get(attribute, attribute)
    waves = [
        getattr(render_components(replace(SCENE, **{attribute: value})), part)[0] for value in ATTRIBUTES[attribute]
    ]
    spectra = [spectrum(wave) / max(spectrum(wave).sum(), 1e-9) for wave in waves]
    alike = [np.sqrt(a * b).sum() for i, a in enumerate(spectra) for b in spectra[:i]]
    assert max(alike) < 0.7


def test_ambience_needs_no_engine_and_snow_muffles_it() -> None:
    near, _, _ = ambience("city", "clear", "day", 3)
    muffled, steps, _ = ambience("city", "snow", "day", 3)
    high = slice(round(4000 * SECONDS), None)
    assert spectrum(muffled)[high].sum() < 0.2 * spectrum(near)[high].sum() and steps.any()


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "ENGINES", ("no_such_engine",))
    with pytest.raises(ImportError, match=r"no_such_engine: pip install 'versatile-diffusion\[postcards\]'"):
        render_sound(SCENE)
