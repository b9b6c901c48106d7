"""What clients send as base64, and that nothing else is read."""

import base64
from io import BytesIO

import pytest
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from tests.unit.serving.running import encoded
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.serving.uploads import Part, Refused, Uploads

CONTENT = encoded(Image.effect_noise((40, 30), 80))
PLAIN = base64.b64encode(CONTENT).decode()


@pytest.mark.parametrize(
    "sent",
    [
        PLAIN,
        base64.encodebytes(CONTENT).decode(),
        f" {PLAIN[:70]}\r\n{PLAIN[70:]}\n",
        f"data:image/png;base64,{PLAIN}",
        f"DATA:image/png;name=a.png;BASE64,{base64.encodebytes(CONTENT).decode()}",
    ],
    ids=["plain", "encodebytes", "line breaks", "data URL", "another data URL"],
)
def test_base64_of_any_form_is_read(sent: str) -> None:
    assert Uploads({}, 0).content(sent) == CONTENT
    item = Uploads({}, 1200).item(IMAGE, sent)
    assert isinstance(item, Image.Image) and item.tobytes() == Image.open(BytesIO(CONTENT)).tobytes()


@pytest.mark.parametrize(
    "sent", ["/etc/passwd", "https://example.org/a.png", "data:image/png,%89PNG", "data:,", "é", f"{PLAIN}="]
)
def test_nothing_else_is_read(sent: str) -> None:
    with pytest.raises(Refused, match="base64"):
        Uploads({}, 0).content(sent)


@pytest.mark.parametrize(
    "value",
    [
        [[1, 0, 2], [3, 4, 5]],
        [[1.0, 0, 2], [3, 4.0, 5]],
        torch.tensor([[1, 0, 2], [3, 4, 5]]),
        torch.tensor([[1, 0, 2], [3, 4, 5]], dtype=torch.bfloat16),
        torch.tensor([[1, 0, 2], [3, 4, 5]], dtype=torch.float64),
    ],
)
def test_arrays_of_any_numbers_mean_the_same(value: list[list[float]] | Tensor) -> None:
    sent = base64.b64encode(save({"it": value})).decode() if isinstance(value, Tensor) else value
    made = Uploads({}, 0).embedding(sent)
    assert made.dtype == torch.float32 and torch.equal(made, torch.tensor([[[1.0, 0, 2], [3, 4, 5]]]))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.tensor([[True]]), "An embedding must hold numbers, got bool"),
        (torch.tensor([[torch.inf]]), "An embedding holds values that are NaN or infinite"),
        (torch.tensor([1.0]), r"An embedding has shape \(tokens, width\), got \(1,\)"),
    ],
)
def test_arrays_that_are_no_embedding_are_named(value: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Uploads({}, 0).embedding(base64.b64encode(save({"it": value})).decode())


def test_all_images_of_a_request_share_one_limit() -> None:
    uploads = Uploads({"a": CONTENT}, 2 * 40 * 30 - 1)
    uploads.item(IMAGE, Part(file="a"))
    with pytest.raises(ValueError, match="40 × 30 pixels is too large: 1199 pixels are left"):
        uploads.item(IMAGE, PLAIN)


def test_words_are_given_as_they_are() -> None:
    assert Uploads({}, 0).item(TEXT, "/etc/passwd") == "/etc/passwd"
    with pytest.raises(Refused, match="not as a file"):
        Uploads({"a": b"a tent"}, 10).item(TEXT, Part(file="a"))
