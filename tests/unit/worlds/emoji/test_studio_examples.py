"""What fills in the studio's forms for a model of emoji."""

from versatile_diffusion.worlds.base import ExampleImage
from versatile_diffusion.worlds.emoji.data.captions import instruction
from versatile_diffusion.worlds.emoji.data.hands import HANDS
from versatile_diffusion.worlds.emoji.data.treatments import TREATMENTS
from versatile_diffusion.worlds.emoji.studio_examples import DRAWINGS, EXAMPLES
from versatile_diffusion.worlds.emoji.world import WORLD


def test_every_drawing_is_shown_and_drawn_in_the_size_that_is_asked_for() -> None:
    shown = [
        value
        for examples in EXAMPLES.values()
        for example in examples
        for value in example.values.values()
        if isinstance(value, ExampleImage)
    ]
    assert {image.draw(48).shape for image in shown} == {(48, 48, 3)}
    assert len({image.draw(48).tobytes() for image in shown}) == len(list(DRAWINGS.glob("*.png")))


def test_edits_are_asked_as_the_model_is_measured() -> None:
    known = {instruction(look) for look in (*HANDS, *TREATMENTS.values()) if look.name != "plain"}
    asked = {str(example.values["prompt"]).lower() for example in EXAMPLES["edit"] if "prompt" in example.values}
    assert asked and asked <= known


def test_the_world_gives_them() -> None:
    for task, examples in EXAMPLES.items():
        assert WORLD.examples(task) == examples != ()
    assert WORLD.examples("no such task") == ()
