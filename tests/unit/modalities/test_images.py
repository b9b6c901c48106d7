from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from versatile_diffusion.modalities import images
from versatile_diffusion.modalities.image_files import require_image
from versatile_diffusion.modalities.images import present, read_images, read_mask, resize, to_pil

_LEVELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
_EXPECTED = torch.from_numpy(_LEVELS).permute(2, 0, 1) / 255


def _one(data: Any) -> torch.Tensor:
    (picture,) = read_images(data)
    return picture


@pytest.mark.parametrize(
    "data",
    [
        Image.fromarray(_LEVELS),
        _LEVELS,
        _LEVELS.astype(np.float32) / 255,
        _LEVELS.astype(np.float64) / 255,
        _LEVELS.transpose(2, 0, 1),
        torch.from_numpy(_LEVELS),
        torch.from_numpy(_LEVELS).permute(2, 0, 1),
        torch.from_numpy(_LEVELS).permute(2, 0, 1) / 255,
        Image.fromarray(_LEVELS).convert("RGBA"),
    ],
)
def test_every_form_gives_the_same_picture(data: Any) -> None:
    torch.testing.assert_close(_one(data), _EXPECTED)


def test_paths_lists_and_batches(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(_LEVELS).save(path)
    pictures = read_images([str(path), path, _LEVELS, np.stack([_LEVELS, _LEVELS])])
    assert len(pictures) == 5
    assert all(torch.equal(picture, _EXPECTED) for picture in pictures)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "LA", "PA", "HSV", "I", "I;16", "F"])
def test_every_mode_of_pil_is_read(mode: str) -> None:
    grey = Image.fromarray(_LEVELS).convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(np.asarray(grey, dtype=np.float32) / 255)
    else:
        image = (grey if mode in ("I", "LA", "PA") else Image.fromarray(_LEVELS)).convert(mode)
    assert image.mode == mode
    picture = _one(image)
    assert picture.shape == (3, 5, 7)
    assert picture.dtype == torch.float32
    if mode in ("L", "I", "I;16", "F", "LA"):
        torch.testing.assert_close(picture[0], torch.from_numpy(np.array(grey)) / 255)


def test_transparent_parts_are_white() -> None:
    levels = np.zeros((2, 2, 4), np.uint8)
    levels[0, :, 3] = 255
    expected = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).expand(3, 2, 2)
    torch.testing.assert_close(_one(Image.fromarray(levels)), expected)
    torch.testing.assert_close(_one(levels), expected)


def test_cameras_turn_pictures(tmp_path: Path) -> None:
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by a quarter
    Image.fromarray(_LEVELS).save(path, exif=exif)
    torch.testing.assert_close(_one(path), _EXPECTED.rot90(-1, (1, 2)))


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 1, 1), (1, 1)])
def test_one_pixel(shape: tuple[int, ...]) -> None:
    assert _one(np.full(shape, 51, np.uint8)).flatten().tolist() == pytest.approx([0.2] * 3)


def test_each_librarys_habit_decides_between_layouts() -> None:
    levels = np.random.default_rng(1).random((3, 4, 3))
    assert _one(levels[:, ::-1]).shape == (3, 3, 4)
    torch.testing.assert_close(_one(levels), torch.from_numpy(levels).permute(2, 0, 1).float())
    torch.testing.assert_close(_one(torch.from_numpy(levels)), torch.from_numpy(levels).float())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.full((4, 4, 3), np.nan), "NaN"),
        (np.full((4, 4, 3), 255.0), "divide it by 255"),
        (np.full((4, 4, 3), -1.0), r"x / 2 \+ 0.5"),
        (np.zeros((4, 4, 3), np.int64), "uint8"),
        (np.zeros((5, 4, 2)), r"\(height, width, 3\)"),
        (np.zeros(4), r"\(height, width, 3\)"),
        (np.zeros((0, 4, 3)), r"\(height, width, 3\)"),
        ("nowhere.png", "nowhere.png"),
    ],
)
def test_what_cannot_be_read(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_images(data)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_files_that_are_no_pictures(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    for read in (read_images, require_image):
        with pytest.raises(ValueError, match=r"Cannot read a picture from .*broken\.png"):
            read(path)


def test_a_picture_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ValueError, match=r"cut\.jpg"):
        read_images(path)


def test_what_is_no_picture() -> None:
    with pytest.raises(TypeError, match="PIL image"):
        read_images(3)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 9), st.integers(1, 9), st.randoms())
def test_eight_bits_survive(height: int, width: int, random: Any) -> None:
    levels = np.frombuffer(random.randbytes(height * width * 3), np.uint8).reshape(height, width, 3)
    assert np.array_equal(np.asarray(to_pil(_one(Image.fromarray(levels)))), levels)


def test_presentation() -> None:
    pictures = [_EXPECTED, _EXPECTED]
    shown = present(pictures, "pil")
    assert [np.array_equal(np.asarray(image), _LEVELS) for image in shown] == [True, True]
    stacked = present(pictures, "pt")
    assert isinstance(stacked, torch.Tensor) and torch.equal(stacked, torch.stack(pictures))
    np.testing.assert_allclose(np.asarray(present(pictures, "np"))[1], _LEVELS / 255, rtol=1e-6)
    with pytest.raises(ValueError, match="output_type"):
        present(pictures, "jpeg")


def test_resizing_keeps_the_range() -> None:
    resized = resize((_EXPECTED > 0.5).float(), 16, 9)
    assert resized.shape == (3, 16, 9)
    assert resized.min() >= 0
    assert resized.max() <= 1


@pytest.mark.parametrize(
    "mask",
    [
        np.array([[True, False]]),
        np.array([[1, 0]], np.uint8),
        np.array([[255, 0]], np.uint8),
        torch.tensor([[[1.0, 0.0]]]),
        Image.fromarray(np.array([[255, 0]], np.uint8)),
    ],
)
def test_masks(mask: Any) -> None:
    assert read_mask(mask).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((3, 3)), "all zero"),
        (np.ones(3), "shape"),
        (np.ones((3, 3, 3)), "shape"),
        (2 * np.ones((2, 2)), "255"),
    ],
)
def test_bad_masks(mask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_mask(mask)


@pytest.mark.parametrize(
    ("former", "present"),
    [("read_pictures", read_images), ("require_picture", require_image)],
)
def test_former_names_go_on_working(former: str, present: object) -> None:
    with pytest.warns(DeprecationWarning, match=f"images.{former} is versatile_diffusion.modalities.image"):
        assert getattr(images, former) is present
