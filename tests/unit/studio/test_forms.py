"""What people choose and paint becomes what the model reads, in 16 bits as in 8."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.serving.running import encoded
from versatile_diffusion.modalities.images import read_images, read_mask
from versatile_diffusion.studio.controls import (
    ImageControl,
    MaskedImage,
    MaskedImageControl,
    NumberControl,
    ShareControl,
    TextControl,
)
from versatile_diffusion.studio.forms import component_of, shown_value, value_of
from versatile_diffusion.studio.visitors import Visitor, VisitorFiles

STEPS = [0.0, 0.25, 0.5, 0.75, 1.0]
IMAGE, MASKED = ImageControl("picture", "Picture"), MaskedImageControl("picture1", "Picture 1")


@pytest.fixture
def visitor(tmp_path: Path) -> Visitor:
    return Visitor("somebody", VisitorFiles(tmp_path))


def grey(bits: int) -> bytes:
    """A PNG of five greys from black to white."""
    kind = np.uint16 if bits == 16 else np.uint8
    return encoded(Image.fromarray((np.array([STEPS]) * (2**bits - 1)).round().astype(kind)))


def opened(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content))


@pytest.mark.parametrize("bits", [8, 16])
def test_greys_stay_what_they_are(visitor: Visitor, bits: int) -> None:
    path = visitor.write("grey.png", grey(bits))
    chosen = value_of(IMAGE, path, visitor)
    painted = value_of(MASKED, {"background": path, "layers": [], "composite": None}, visitor)
    assert isinstance(chosen, bytes) and isinstance(painted, MaskedImage) and painted.mask is None
    for content in (chosen, painted.image):
        np.testing.assert_allclose(read_images(opened(content))[0][0, 0], STEPS, atol=1 / 255)
    if bits == 16:
        assert np.asarray(opened(chosen)).max() == 65535, "16 bits are kept"


@pytest.mark.parametrize("bits", [8, 16])
def test_what_is_painted_in_grey_is_hidden_where_it_is_bright(visitor: Visitor, bits: int) -> None:
    background = visitor.write("background.png", encoded(Image.new("RGB", (5, 1), "blue")))
    layer = visitor.write("layer.png", grey(bits))
    painted = value_of(MASKED, {"background": background, "layers": [layer], "composite": None}, visitor)
    assert isinstance(painted, MaskedImage) and painted.mask is not None
    seen = read_mask(opened(painted.mask))[0].tolist()
    assert seen[:2] == [1, 1] and seen[3:] == [0, 0]  # the grey in the middle may round to either


def test_a_layer_hides_what_is_opaque_in_it(visitor: Visitor) -> None:
    background = visitor.write("background.png", encoded(Image.new("RGB", (5, 1), "blue")))
    colors = Image.new("RGBA", (5, 1))
    colors.paste((225, 29, 72, 255), (0, 0, 2, 1))
    for layer, seen in ((colors, [0, 0, 1, 1, 1]), (Image.new("RGB", (5, 1), "#100000"), None)):
        path = visitor.write("layer.png", encoded(layer))
        painted = value_of(MASKED, {"background": background, "layers": [path], "composite": None}, visitor)
        assert isinstance(painted, MaskedImage) and painted.mask is not None
        levels = np.asarray(opened(painted.mask))[0] / 255
        assert levels.tolist() == (seen or [0] * 5)


def test_a_painting_in_16_bits_is_shown_as_it_is_seen(visitor: Visitor) -> None:
    shown: Any = shown_value(MASKED, MaskedImage(grey(16), grey(16)), visitor)
    background = opened(visitor.read(shown["background"])).convert("RGB")
    np.testing.assert_allclose(read_images(background)[0][0, 0], STEPS, atol=1 / 255)
    [layer] = shown["layers"]
    opacity = np.asarray(opened(visitor.read(layer)).getchannel("A"))[0] / 255
    np.testing.assert_allclose(opacity, STEPS[::-1], atol=1 / 255)


def test_values_come_back_as_they_were_shown(visitor: Visitor) -> None:
    image = encoded(Image.new("RGB", (4, 4), "green"))
    mask = encoded(Image.linear_gradient("L").resize((4, 4)).point([0] * 128 + [255] * 128))
    shown: Any = shown_value(IMAGE, image, visitor)
    assert value_of(IMAGE, shown, visitor) == image
    edited: Any = shown_value(MASKED, MaskedImage(image, mask), visitor)
    back = value_of(MASKED, edited, visitor)
    assert isinstance(back, MaskedImage) and back.mask is not None
    assert opened(back.image).tobytes() == opened(image).tobytes()
    assert opened(back.mask).tobytes() == opened(mask).tobytes()


def test_files_of_others_are_not_read(visitor: Visitor, tmp_path: Path) -> None:
    theirs = VisitorFiles(tmp_path).write("another", "grey.png", grey(8))
    for control, given in ((IMAGE, theirs), (MASKED, {"background": theirs, "layers": []})):
        with pytest.raises(ValueError, match="choose it again"):
            value_of(control, given, visitor)


def test_numbers_have_sliders_where_their_ends_are_known() -> None:
    kinds = [
        (ShareControl("a", "A"), "Slider"),
        (NumberControl("a", "A", default=3, minimum=1, maximum=250, whole=True), "Slider"),
        (NumberControl("a", "A", minimum=1, maximum=250, whole=True), "Textbox"),
        (NumberControl("a", "A", default=3, minimum=1, maximum=10**6, whole=True), "Number"),
        (TextControl("a", "A"), "Textbox"),
    ]
    assert [type(component_of(control)).__name__ for control, _ in kinds] == [kind for _, kind in kinds]


def test_numbers_that_may_be_empty_are_written(visitor: Visitor) -> None:
    whole = NumberControl("top_k", "Top k", minimum=1, maximum=10**6, whole=True)
    share = NumberControl("top_p", "Top p", minimum=0, maximum=1)
    assert [value_of(whole, words, visitor) for words in ("", " ", "40")] == [None, None, 40]
    assert value_of(share, "0.5", visitor) == 0.5 and value_of(share, 0.25, visitor) == 0.25  # of a former form
    assert [shown_value(share, value, visitor) for value in (None, 0.25, 1)] == [None, "0.25", "1"]
    assert shown_value(whole, 1_000_000, visitor) == "1000000"
    for control, words, message in (
        (whole, "4.5", "Top k is a whole number, or empty"),
        (share, "much", "Top p is a number, or empty"),
    ):
        with pytest.raises(ValueError, match=message):
            value_of(control, words, visitor)
