"""What is wrong with a request is told in words: the field, what was sent, and what would do."""

from typing import Any

import pytest
from pydantic import ValidationError

from versatile_diffusion.serving.schemas import generate_model
from versatile_diffusion.serving.words import in_words

TENT = {"modality": "text", "data": "a red tent"}
ASKED: dict[str, Any] = {"to": "image", "contexts": [TENT]}


def told(**changes: Any) -> str:
    model = generate_model()
    with pytest.raises(ValidationError) as raised:
        model.model_validate(ASKED | changes)
    return in_words(raised.value, model)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_inference_steps": "many"}, 'num_inference_steps must be a whole number, got "many". Steps of the whole'),
        ({"num_inference_steps": 20.5}, "num_inference_steps must be a whole number, got 20.5"),
        ({"num_inference_steps": 0}, "num_inference_steps must be 1 or more, got 0"),
        ({"height": 10**6}, "height must be 65536 or less, got 1000000"),
        ({"strength": "full"}, 'strength must be a number, got "full"'),
        ({"wait": "perhaps"}, 'wait must be true or false, got "perhaps"'),
        ({"to": 5}, "to must be a text in quotes, got 5"),
        ({"contexts": [TENT | {"weight": -1}]}, "contexts.0.weight must be 0 or more, got -1"),
        ({"contexts": [TENT | {"wieght": 1}]}, "no field contexts.0.wieght"),
        ({"contexts": [5]}, "contexts.0 must be an object of JSON, got 5"),
        ({"contexts": [{"data": "a tent"}]}, "contexts.0.modality is missing"),
        ({"contexts": []}, "contexts must hold 1 at least, got []"),
        ({"start": {}}, "start.file is missing"),
        ({"start": 5}, "start must be a text in quotes, got 5. What to start from"),
        ({"contexts": [{"modality": "text", "embedding": [["a"]]}]}, "embedding.0.0 must be a number"),
        ({"seed": 2**64}, "seed must be below 18446744073709551616, got 18446744073709551616"),
        ({"edit": {"text_share": 0}}, "edit.text_share must be above 0, got 0"),
        ({"scheduler": "best"}, "A scheduler is one of ddim"),
    ],
)
def test_the_field_what_was_sent_and_what_would_do(changes: dict[str, Any], words: str) -> None:
    assert words in told(**changes)


def test_several_things_are_told_at_once_but_never_more_than_a_screen() -> None:
    found = told(num_inference_steps="many", strength=2, height="tall", width="wide", seed=-1)
    assert "num_inference_steps" in found and "strength" in found and len(found) < 1010
    assert len(told(**{"x" * 100_000: 1})) < 1010 and len(told(seed="x" * 100_000)) < 200


def test_numbers_and_words_as_people_write_them() -> None:
    read = generate_model().model_validate(ASKED | {"num_inference_steps": 20.0, "seed": 2**64 - 1})
    assert read.num_inference_steps == 20 and read.seed == 2**64 - 1
    for negative in ("rain", ["rain"], {"modality": "text", "data": "rain"}):
        (away,) = generate_model().model_validate(ASKED | {"negative": negative}).negative
        assert (away.modality, away.data) == ("text", "rain")
    assert generate_model().model_validate(ASKED | {"negative": None}).negative == ()
