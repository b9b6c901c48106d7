"""Whatever a user gives to the library is taken, or refused in a message of ours that fits on a screen."""

import random
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
from PIL import Image

from tests.mutations import LONGEST, ODD, array_files, image_files, mutated
from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.applications.embeddings import read_arrays, read_embeddings
from versatile_diffusion.arrays import as_tensor
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.images import read_images, read_mask
from versatile_diffusion.modalities.text_spec import read_texts
from versatile_diffusion.pipeline.request import Request

pytestmark = pytest.mark.filterwarnings("ignore")

CONTEXT = ("data", "embedding", "weight", "mask", "focus", "unconditional")
OPTIONS = (
    *(
        "num_outputs",
        "num_inference_steps",
        "guidance_scale",
        "guidance_rescale",
        "guidance_interval",
        "strength",
        "eta",
    ),
    *("height", "width", "negative", "start", "latents", "seeds", "colors_of", "decoding", "steps"),
)
CALLS = ("generator", "scheduler", "output_type")


@pytest.fixture(autouse=True)
def unchecked_types() -> Iterator[None]:
    """Types are checked in tests alone: what users meet is what is checked by hand."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


def told(call: Callable[[], Any]) -> str | None:
    """What is said of a call; None if it works. Only errors of ours, and of no other type, may leave the package."""
    try:
        call()
    except (ValueError, TypeError) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        assert "versatile_diffusion" in where.filename and where.name != "<lambda>", "".join(
            traceback.format_exception(error)[-8:]
        )
        message = str(error)
        assert 10 < len(message) < LONGEST and message.count("\n") < 20, message[:200]
        return message
    return None


def test_contexts_and_requests() -> None:
    draw, taken = random.Random(1), 0
    for _ in range(600):
        given = {name: draw.choice(ODD) for name in draw.sample(CONTEXT, draw.choice((1, 1, 2)))}
        taken += told(lambda: Context(draw.choice(("image", "text")), **given)) is None  # noqa: B023 - called at once
        asked = {name: draw.choice(ODD) for name in draw.sample(OPTIONS, draw.choice((1, 1, 2)))}
        taken += told(lambda: Request.of("image", Context("text", "a"), **asked)) is None  # noqa: B023
        taken += told(lambda: Request.of("image", draw.choice(ODD))) is None
    assert taken > 100


@pytest.mark.parametrize(
    "read", [read_images, read_mask, read_texts, IMAGE.codec.values, lambda value: as_tensor(value, "it")]
)
def test_readers(read: Callable[[Any], Any]) -> None:
    assert sum(told(lambda value=value: read(value)) is None for value in ODD) > 0


def test_calls(pipe: VersatileDiffusionPipeline) -> None:
    draw = random.Random(2)
    calls = (
        pipe.text_to_image, pipe.image_variation, pipe.image_to_text, pipe.text_variation, pipe.edit, pipe.reconstruct,
    )  # fmt: skip
    for _ in range(250):
        call: Any = draw.choice(calls)
        data = draw.choice(("a tent", Image.new("RGB", (9, 7)), draw.choice(ODD)))
        options = {name: draw.choice(ODD) for name in draw.sample((*OPTIONS, *CALLS), draw.choice((1, 2)))}
        told(lambda: call(data, **{"num_inference_steps": 1, "guidance_scale": 1.0, **options}))  # noqa: B023


def test_encoding(pipe: VersatileDiffusionPipeline) -> None:
    modality: Any
    for modality in ("image", "text", "sound", 3):
        for value in ODD:
            told(lambda: pipe.encode(modality, value))  # noqa: B023
            told(lambda: pipe.encode_context(modality, value))  # noqa: B023


def test_damaged_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    draw, whole = random.Random(3), 0
    for suffix, content in (image_files() | array_files()).items():
        file = tmp_path / f"given{suffix}"
        arrays = suffix in array_files()
        readers = (read_arrays, read_embeddings) if arrays else (IMAGE.codec.read, IMAGE.codec.require, read_mask)
        file.write_bytes(content)
        for read in readers[:2]:
            told(lambda: read(file))  # noqa: B023
        for _ in range(60):
            file.write_bytes(mutated(content, draw))
            message = told(lambda: draw.choice(readers)(file))  # noqa: B023
            whole += message is None
            assert message is None or "given" in message or "The mask" in message or "A mask" in message, message
    assert whole > 20
