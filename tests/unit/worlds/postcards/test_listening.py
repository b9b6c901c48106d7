import numpy as np
import pytest

from tests.unit.worlds.postcards.engines import needs_ear
from versatile_diffusion.modalities.sounds import Sound
from versatile_diffusion.worlds.postcards.data import ATTRIBUTES, Scene
from versatile_diffusion.worlds.postcards.evaluation.listening import hear_voice, heard_voices
from versatile_diffusion.worlds.postcards.sound import RATE, render_components


@needs_ear
def test_another_ear_understands_the_voice() -> None:
    subjects = ATTRIBUTES["subject"]
    scenes = [
        Scene("sea", "night", "rain", subjects[i], color, "left", "watercolor", seed=i)
        for i, color in enumerate(ATTRIBUTES["color"])
    ]
    heard = heard_voices([Sound(render_components(scene).voice, RATE) for scene in scenes], scenes)
    assert heard.phrase >= 0.5 > 10 * heard.chance
    assert heard.color >= heard.phrase <= heard.subject
    shuffled = heard_voices([Sound(render_components(scene).voice, RATE) for scene in scenes[::-1]], scenes)
    assert shuffled.phrase == 0


@needs_ear
@pytest.mark.parametrize("samples", [np.zeros((2, 3 * RATE)), np.zeros(100), np.full((1, 20_000), 0.1)])
def test_what_says_nothing_is_heard_as_well(samples: np.ndarray) -> None:
    assert len(hear_voice(Sound(samples, RATE))) in (0, 2)
