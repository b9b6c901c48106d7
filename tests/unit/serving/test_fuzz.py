"""Whatever is sent to any route, the answer is in words that fit on a screen, and nothing of the server's insides."""

import logging
from collections import Counter
from random import Random

import pytest
from fastapi.testclient import TestClient

from tests.unit.serving.mutations import damaged, files, requests
from tests.unit.serving.running import Gate
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.serving.app import build_app
from versatile_diffusion.serving.limits import Limits
from versatile_diffusion.serving.uploads import Part, Uploads

REQUESTS, FILES = 600, 2000


def test_no_request_ends_in_an_error_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    random, gate = Random(7), Gate(steps=1)
    gate.go.set()
    app = build_app(Engine(gate), limits=Limits(input_pixels=10**6, answer_pixels=2**21, body=2**22))
    statuses = Counter[int]()
    with (
        caplog.at_level(logging.ERROR),
        TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client,
    ):
        for number, ask in enumerate(requests(random, REQUESTS)):
            response = ask(client)
            statuses[response.status_code] += 1
            if response.status_code < 400:
                continue
            assert response.status_code < 500, (number, response.text, caplog.text)
            message = response.json()["error"]["message"] if response.text else "HEAD"
            assert 0 < len(message) < 2000 and "Traceback" not in message and "pydantic" not in message, number
    assert statuses[200] > REQUESTS / 20 and statuses[422] > REQUESTS / 4, statuses
    assert not [record for record in caplog.records if record.exc_info], caplog.text


def test_no_file_of_any_suffix_ends_in_anything_but_words() -> None:
    random, every = Random(7), files()
    taken = 0
    for number in range(FILES):
        suffix, content = random.choice(list(every.items()))
        uploads = Uploads({"a": damaged(random, content)}, 10**6)
        try:
            uploads.item(IMAGE, Part(file="a"))
            taken += 1
        except ValueError as error:
            assert 0 < len(str(error)) < 1000, (number, suffix)
        if suffix == ".safetensors":
            try:
                uploads.embedding(Part(file="a"))
            except ValueError as error:
                assert 0 < len(str(error)) < 1000, (number, suffix)
    assert taken > FILES / 20
