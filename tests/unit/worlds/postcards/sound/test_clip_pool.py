from pathlib import Path

import numpy as np
import pytest

from tests.unit.worlds.postcards.engines import needs_engines
from versatile_diffusion.worlds.postcards.data import Postcards
from versatile_diffusion.worlds.postcards.sound import clip_pool
from versatile_diffusion.worlds.postcards.sound.clip_pool import ClipPool
from versatile_diffusion.worlds.postcards.sound.mels import FRAMES, SPECTRUM, mels_in, mels_of
from versatile_diffusion.worlds.postcards.sound.render import render_sound
from versatile_diffusion.worlds.postcards.sound.waves import LENGTH

pytestmark = needs_engines


def test_a_pool_is_rendered_once_and_heard_once(tmp_path: Path) -> None:
    pool = ClipPool(Postcards(1, 2), tmp_path)
    waves, mels = pool.waves, mels_in(pool)
    assert waves.shape == (2, 2, LENGTH) and mels.shape == (2, 2, FRAMES, SPECTRUM.bands)
    times = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    again = ClipPool(Postcards(1, 2), tmp_path)
    assert (again.waves == waves).all() and (mels_in(again) == mels).all()
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == times and len(times) == 2


def test_a_sound_of_a_pool_is_the_one_that_is_rendered(tmp_path: Path) -> None:
    postcards = Postcards(1, 2)
    pool = ClipPool(postcards, tmp_path)
    rendered = render_sound(postcards.scene(1))
    np.testing.assert_allclose(pool[1].samples, rendered.samples, atol=2**-15)
    np.testing.assert_allclose(mels_in(pool)[1], mels_of([rendered])[0], atol=0.3)


def test_a_pool_goes_on_with_the_parts_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_pool, "PART", 1)
    whole = ClipPool(Postcards(1, 3), tmp_path).waves
    files = sorted(tmp_path.iterdir())
    files[1].unlink()
    kept = files[0].stat().st_mtime_ns
    assert (ClipPool(Postcards(1, 3), tmp_path).waves == whole).all()
    assert len(files) == 3 and files[1].exists() and files[0].stat().st_mtime_ns == kept


def test_a_pool_of_another_renderer_is_rendered_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ClipPool(Postcards(1, 2), tmp_path).waves
    monkeypatch.setattr(clip_pool, "render_sound", lambda scene: render_sound(scene).at_loudness(-40))
    assert np.abs(ClipPool(Postcards(1, 2), tmp_path).waves).max() < np.abs(first).max() / 2
    monkeypatch.undo()
    assert (ClipPool(Postcards(1, 2), tmp_path).waves == first).all()


def test_what_hears_otherwise_hears_anew(tmp_path: Path) -> None:
    pool = ClipPool(Postcards(1, 2), tmp_path)
    first = pool.heard("loudness", lambda sounds: mels_of(sounds).mean((1, 2, 3)))
    assert np.allclose(pool.heard("loudness", lambda sounds: mels_of(sounds).mean((1, 2, 3)) - 1), first - 1, atol=1e-2)
