import numpy as np

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
def test_silence_is_not_understood() -> None:
    assert len(hear_voice(Sound(np.zeros((2, 3 * RATE)), RATE))) in (0, 2)
