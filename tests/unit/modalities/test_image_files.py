"""Images as a person sees them: their colours, their orientation, and how many bits they have."""

import base64
import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, features
from torch import Tensor

from versatile_diffusion.modalities.image_files import TooLarge, open_upload, require_image
from versatile_diffusion.modalities.image_spec import IMAGE, UPLOADED, ImageCodec
from versatile_diffusion.modalities.images import read_images, read_mask
from versatile_diffusion.modalities.text_spec import TEXT

# The primaries of two RGB spaces as XYZ under the light of ICC profiles (D50), and their curve: sRGB's in both.
DISPLAY_P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def profile(primaries: tuple[tuple[float, ...], ...], curve: tuple[float, ...] = SRGB_CURVE) -> bytes:
    """An ICC profile of three primaries and a curve (ICC.1:2010), the smallest there is."""

    def fixed(*numbers: float) -> bytes:
        return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))

    tags = {f"{name}XYZ".encode(): b"XYZ \0\0\0\0" + fixed(*xyz) for name, xyz in zip("rgb", primaries, strict=True)}
    tags |= {f"{name}TRC".encode(): b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + fixed(*curve) for name in "rgb"}
    tags[b"wtpt"] = b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249)
    tags[b"desc"] = b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", 2, 28) + "x".encode("utf-16-be")
    tags[b"cprt"] = tags[b"desc"]
    table, data, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(data), len(content))
        data += content + b"\0" * (-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(data), b"test", 0x04000000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp")
    header = header.ljust(68, b"\0") + fixed(0.9642, 1, 0.8249)
    return header.ljust(128, b"\0") + table + data


def png(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def levels(tensor: Tensor) -> list[int]:
    """The pixels of a tensor (3 h w) as levels of 0 to 255, channel by channel."""
    return (tensor * 255).round().int().flatten().tolist()


def colour(*rgb: int) -> Image.Image:
    return Image.new("RGB", (1, 1), rgb)


@pytest.mark.parametrize(
    ("stored", "seen"),
    [
        ((234, 51, 35), (255, 0, 0)),  # the red of sRGB, as Display P3 has it
        ((117, 251, 76), (2, 255, 0)),  # by the matrices of both spaces, as those below
        ((200, 100, 50), (215, 93, 31)),
        ((60, 120, 200), (30, 122, 206)),
        ((128, 128, 128), (128, 128, 128)),
        ((255, 255, 255), (255, 255, 255)),
    ],
)
def test_the_colours_of_a_profile_are_those_that_a_person_sees(
    stored: tuple[int, int, int], seen: tuple[int, int, int], tmp_path: Path
) -> None:
    file = tmp_path / "p3.png"
    file.write_bytes(png(colour(*stored), icc_profile=profile(DISPLAY_P3)))
    (from_file,), (from_pil,) = read_images(file), read_images(Image.open(file))
    uploaded = open_upload(file.read_bytes(), UPLOADED)
    for found in (levels(from_file), levels(from_pil), list(uploaded.tobytes())):
        assert np.abs(np.subtract(found, seen)).max() <= 1, found
    assert "icc_profile" not in uploaded.info  # or a viewer would apply it once more


def test_colours_and_opacity_are_told_apart() -> None:
    image = Image.new("RGBA", (2, 1), (234, 51, 35, 255))
    image.putpixel((1, 0), (234, 51, 35, 0))
    uploaded = open_upload(png(image, icc_profile=profile(DISPLAY_P3)), UPLOADED)
    assert uploaded.mode == "RGBA"
    assert uploaded.getchannel("A").tobytes() == b"\xff\x00"
    red, white = np.array(levels(read_images(uploaded)[0])).reshape(3, 2).T
    assert np.abs(red - [255, 0, 0]).max() <= 1
    assert white.tolist() == [255, 255, 255]


@pytest.mark.parametrize("own", [profile(SRGB), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()])
def test_images_in_srgb_stay_as_they_are_to_the_last_bit(own: bytes) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    assert open_upload(png(image, icc_profile=own), UPLOADED).tobytes() == image.tobytes()


@pytest.mark.parametrize("damaged", [b"no profile", profile(DISPLAY_P3)[:200], profile(DISPLAY_P3)[:300]])
def test_a_damaged_profile_is_left_out(damaged: bytes) -> None:
    image = Image.open(io.BytesIO(png(colour(9, 99, 199))))
    image.info["icc_profile"] = damaged
    assert levels(read_images(image)[0]) == [9, 99, 199]


def test_a_profile_of_another_kind_of_image_is_left_out() -> None:
    grey = Image.open(io.BytesIO(png(Image.new("L", (1, 1), 77), icc_profile=profile(DISPLAY_P3))))
    assert levels(read_images(grey)[0]) == [77, 77, 77]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"{'seed': 7}", b"", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12", b"\xff" * 40])
def test_a_damaged_exif_block_says_nothing_of_the_pixels(exif: bytes, tmp_path: Path) -> None:
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    file = tmp_path / "damaged.png"
    file.write_bytes(png(Image.fromarray(pixels), exif=exif))
    expected = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    torch.testing.assert_close(read_images(file)[0], expected)
    torch.testing.assert_close(read_images(open_upload(file.read_bytes(), UPLOADED))[0], expected)
    assert read_mask(file).shape == (2, 3)


SHADES = [0.0, 0.25, 0.5, 0.75, 1.0]
DEEP = np.array([[0, 16384, 32768, 49151, 65535]], np.uint16)


def deep_masks(folder: Path) -> dict[str, object]:
    """The shades in 16 bits, in every form in which they come."""
    sixteen = Image.fromarray(DEEP)
    sixteen.save(folder / "mask.png")
    sixteen.save(folder / "mask.tif")
    return {
        "PIL": sixteen,
        "PNG": folder / "mask.png",
        "TIFF": folder / "mask.tif",
        "integers": Image.fromarray(DEEP.astype(np.int32)),
        "floats": Image.fromarray(DEEP.astype(np.float32) / 65535),
        "array": DEEP,
        "big-endian": DEEP.astype(">u2"),
        "big-endian floats": (DEEP / 65535).astype(">f4"),
        "half": (DEEP / 65535).astype(np.float16),
        "tensor": torch.from_numpy(DEEP),
    }


def test_masks_of_sixteen_bits_keep_their_shades(tmp_path: Path) -> None:
    for form, mask in deep_masks(tmp_path).items():
        assert read_mask(mask).flatten().tolist() == pytest.approx(SHADES, abs=1e-3), form


def test_images_of_sixteen_bits_keep_their_shades(tmp_path: Path) -> None:
    for form, image in deep_masks(tmp_path).items():
        if form != "tensor":  # (1 5) would do as channels as well
            assert read_images(image)[0][0].flatten().tolist() == pytest.approx(SHADES, abs=1e-3), form


def test_integers_that_nobody_knows_the_white_of_are_refused() -> None:
    with pytest.raises(ValueError, match=r"integers up to 70000: save it with 8 or 16 bits"):
        read_images(Image.fromarray(np.array([[70000]], np.int32)))


@pytest.mark.parametrize(
    ("mode", "pixels", "kept"),
    [
        ("RGBA", [(255, 255, 255, 0), (255, 255, 255, 51), (255, 255, 255, 255)], [0, 0.2, 1]),  # the alpha is the mask
        ("RGBA", [(0, 0, 0, 0), (255, 255, 255, 255), (0, 0, 0, 255)], [0, 1, 0]),  # painted on nothing
        ("RGBA", [(0, 0, 0, 255), (51, 51, 51, 255), (255, 255, 255, 255)], [0, 0.2, 1]),  # the colours are the mask
        ("LA", [(255, 0), (255, 51), (255, 255)], [0, 0.2, 1]),
        ("L", [0, 51, 255], [0, 0.2, 1]),
        ("1", [0, 255, 255], [0, 1, 1]),
    ],
)
def test_what_is_transparent_in_a_mask_is_not_kept(mode: str, pixels: Any, kept: list[float]) -> None:
    mask = Image.new(mode, (3, 1))
    mask.putdata(pixels)
    assert read_mask(mask).flatten().tolist() == pytest.approx(kept, abs=1e-6)


def test_a_mask_of_colours_with_transparent_entries() -> None:
    mask = Image.new("P", (2, 1))
    mask.putpalette([255, 255, 255, 255, 255, 255])
    mask.putdata([0, 1])
    assert read_mask(Image.open(io.BytesIO(png(mask, transparency=0)))).tolist() == [[0, 1]]


def test_an_uploaded_image_is_measured_before_it_is_decoded() -> None:
    content = png(Image.new("RGB", (30, 40)))
    assert IMAGE.codec.decode(content, most=1200) is not None
    with pytest.raises(TooLarge, match=r"30 × 40 pixels is too large: 1199 pixels are left"):
        IMAGE.codec.decode(content[:60], most=1199)  # its pixels are not even there
    with pytest.raises(ValueError, match="must be whole, and one of PNG"):
        IMAGE.codec.decode(content[:60])
    with pytest.raises(ValueError, match="must be whole, and one of PNG"):
        file = io.BytesIO()
        Image.new("RGB", (3, 3)).save(file, "TGA")
        IMAGE.codec.decode(file.getvalue())


def test_a_message_about_a_file_is_short() -> None:
    url = "data:image/png;base64," + "A" * 2_000_000
    for read, said in (
        (read_images, "Cannot read a picture from a data URL"),
        (_required, "There is no file data:image"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            read(url)
        assert len(str(caught.value)) < 1000


def _required(name: str) -> None:
    require_image(Path(name))


@pytest.mark.parametrize("form", ["data:image/png;base64,{}", "DATA:;base64,{}"])
def test_a_data_url_stands_for_a_file(form: str) -> None:
    content = base64.encodebytes(png(Image.new("L", (2, 3), 51))).decode()  # with line breaks
    url = form.format(content)
    assert read_images(url)[0].tolist() == read_images(Image.new("RGB", (2, 3), (51, 51, 51)))[0].tolist()
    assert read_mask(url).tolist() == [[pytest.approx(0.2)] * 2] * 3
    parsed = IMAGE.codec.parse(url)
    assert isinstance(parsed, torch.Tensor) and torch.equal(parsed, read_images(url)[0])
    with pytest.raises(ValueError, match="a data URL: A data URL must hold base64"):
        read_images("data:image/png,%89PNG")


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name, said in (("", "is a folder"), ("pipe.png", "is a pipe or a device"), ("no.png", "There is no file")):
        for read in (read_images, read_mask, IMAGE.codec.require, TEXT.codec.read):
            with pytest.raises(ValueError, match=said):
                read(tmp_path / name)
    with pytest.raises(ValueError, match="File name too long"):
        read_images("a" * 5000)
    with pytest.raises(ValueError, match="Cannot read a picture from an image of PIL: image file is truncated"):
        read_images(Image.open(io.BytesIO(png(Image.effect_noise((40, 40), 50))[:500])))


def test_an_image_file_holds_its_record() -> None:
    codec = ImageCodec()
    image, record = Image.new("RGB", (2, 3), "teal"), {"prompt": "ein größeres Zelt", "seed": "7"}
    content = codec.encode(image, record)
    assert codec.read_record(content) == record
    assert codec.decode(content).tobytes() == image.tobytes()
    assert codec.read_record(codec.encode(image)) == {}
    with pytest.raises(TypeError, match="image of PIL"):
        codec.encode("teal")


def test_records_keep_images_exactly() -> None:
    codec = ImageCodec()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8))
    eight, deep = codec.values([image, Image.fromarray(DEEP)])
    assert (eight.shape, eight.dtype) == ((4, 5, 3), torch.uint8)
    assert (deep.shape, deep.dtype) == ((3, 1, 5), torch.float32)
    for value in (eight, deep):
        assert torch.equal(codec.values(codec.restored(value))[0], value)
    assert codec.measure(image) == 20


def test_pil_opens_what_the_codec_reads() -> None:
    opened = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN}
    assert set(ImageCodec.suffixes) - opened <= (set() if features.check("avif") else {".avif"})
    assert IMAGE.codec.suffix in ImageCodec.suffixes
