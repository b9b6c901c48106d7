"""Contexts, grids and samplers on the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.cli.test_cli import PROMPT, empty_folder, make, nothing_computed, pixels, vd  # noqa: F401
from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.cli.contexts import assigned
from versatile_diffusion.cli.grid import labelled_grid
from versatile_diffusion.sampling.options import SchedulerName
from versatile_diffusion.sampling.schedulers import SCHEDULERS


@pytest.fixture(autouse=True)
def files(empty_folder: Path) -> None:  # noqa: F811
    levels = np.random.default_rng(0).integers(0, 255, (4, 28, 28, 3), dtype=np.uint8)
    for name, level in zip("abcd", levels, strict=True):
        Image.fromarray(level).save(f"{name}.png")
    Image.fromarray(np.repeat(np.array([[255], [0]], np.uint8), 14, axis=0).repeat(28, axis=1)).save("mask.png")
    Image.new("L", (28, 28)).save("black.png")
    np.save("tokens.npy", np.ones((5, 24), np.float32))
    np.savez("two.npz", a=np.ones(2), b=np.ones(2))
    Path("cut.npz").write_bytes(Path("two.npz").read_bytes()[:100])
    np.save("words.npy", np.array(["a", "b"]))
    Path("empty.npy").touch()


FOUR = ["--image", "a.png:0.4", "--image", "b.png:0.3", "--image", "c.png", "--image", "d.png", "--text", "a tent:0.3"]


def test_four_pictures_each_with_mask_weight_and_focus(model: Path) -> None:
    own = ["--mask", "b.png=mask.png", "--mask", "d.png=mask.png", "--focus", "0.2", "--focus", "c.png=0.9"]
    result = make(model, "blend", *FOUR, *own, "--seed", 1, "-o", "cli.png")
    assert result.exit_code == 0, result.output
    more: list[dict[str, Any]] = [
        {"weight": 0.4, "focus": 0.2},
        {"weight": 0.3, "focus": 0.2, "mask": "mask.png"},
        {"focus": 0.9},
        {"focus": 0.2, "mask": "mask.png"},
    ]
    contexts = [Context("text", "a tent", weight=0.3)]
    contexts += [Context("image", f"{name}.png", **own) for name, own in zip("abcd", more, strict=True)]
    pipe = VersatileDiffusionPipeline.from_pretrained(model)
    seed = torch.Generator().manual_seed(1)
    expected = pipe.generate("image", contexts, num_inference_steps=2, generator=seed).images[0]
    assert (pixels("cli.png") == np.asarray(expected)).all()


UNCONDITIONALS: dict[str, list[Any]] = {
    "unconditional of an embedding": ["--unconditional", "image=tokens.npy"],
    "unconditional of all others": ["--unconditional", "zeros"],
}
"""What takes their place where there are negative contexts."""

EVERY: dict[str, list[Any]] = {
    "embedding": ["--embedding", "image=tokens.npy:0.4"],
    "text": ["--text", PROMPT],
    "scheduler": ["--scheduler", "unipc"],
    "interval": ["--guidance-interval", "0.2,0.4"],
    "negative text": ["--negative", "a tree"],
    "negative picture": ["--negative-image", "a.png:0.5"],
    "start": ["--start", "b.png", "--strength", 0.8],
    "colours": ["--colors-of", "c.png"],
}


def generated(model: Path, options: dict[str, list[Any]]) -> tuple[dict[str, Any], np.ndarray]:
    """What `vd generate image` tells of a picture, and the picture."""
    words = [word for option in options.values() for word in option]
    how = ["--steps", 4, "--device", "cpu", "--dtype", "fp32", "--json", "--seed", 1, "--overwrite", "-o", "made.png"]
    result = vd("generate", "image", *words, "--model", model, *how)
    assert result.exit_code == 0, result.output
    (told,) = json.loads(result.stdout)
    return told, pixels("made.png")


def expected(model: Path, contexts: list[Context], **options: Any) -> np.ndarray:
    """What the library makes of the options of `EVERY`."""
    pipe, seed = VersatileDiffusionPipeline.from_pretrained(model), torch.Generator().manual_seed(1)
    how: dict[str, Any] = {"scheduler": "unipc", "guidance_interval": (0.2, 0.4), "start": "b.png", "strength": 0.8}
    return np.asarray(
        pipe.generate(
            "image", contexts, colors_of="c.png", num_inference_steps=4, generator=seed, **how, **options
        ).images[0]
    )


def test_generate_takes_embeddings_negatives_and_samplers(model: Path) -> None:
    told, made = generated(model, EVERY)
    assert told["scheduler"] == "unipc" and told["guidance_interval"] == "0.2,0.4"
    assert told["embeddings"] == "image=tokens.npy:0.4" and told["negative_images"] == "a.png:0.5"
    contexts = [Context("text", PROMPT), Context("image", embedding=torch.ones(1, 5, 24), weight=0.4)]
    negative = [Context("text", "a tree"), Context("image", "a.png", weight=0.5)]
    assert (
        np.abs(made.astype(int) - expected(model, contexts, negative=negative)).max() <= 1
    )  # packed, it rounds otherwise


def test_generate_takes_unconditionals(model: Path) -> None:
    plain = {name: option for name, option in EVERY.items() if "negative" not in name}
    tokens = torch.ones(1, 5, 24)
    _, made = generated(model, plain | UNCONDITIONALS)
    contexts = [
        Context("text", PROMPT, unconditional="zeros"),
        Context("image", embedding=tokens, weight=0.4, unconditional=tokens),
    ]
    assert np.abs(made.astype(int) - expected(model, contexts)).max() <= 1
    for left_out in UNCONDITIONALS:
        fewer = {name: option for name, option in UNCONDITIONALS.items() if name != left_out}
        assert (generated(model, plain | fewer)[1] != made).any(), left_out


def test_every_option_of_generate_changes_the_picture(model: Path) -> None:
    _, made = generated(model, EVERY)
    for left_out in EVERY:
        fewer = {name: option for name, option in EVERY.items() if name != left_out}
        assert (generated(model, fewer)[1] != made).any(), left_out


@pytest.mark.parametrize(
    ("command", "context"),
    [(["text-variation", PROMPT], Context("text", PROMPT)), (["image-to-text", "a.png"], Context("image", "a.png"))],
    ids=["from a text", "from a picture"],
)
def test_texts_move_away_from_pictures_as_well(
    model: Path, pipe: VersatileDiffusionPipeline, command: list[str], context: Context
) -> None:
    options = ["--eta", 0.5, "--scheduler", "ddim", "--seed", 1, "--json"]
    result = make(model, *command, "--negative-image", "b.png", *options)
    assert result.exit_code == 0, result.output

    def written(negative: list[Context] | None) -> str:
        seed = torch.Generator().manual_seed(1)
        how: dict[str, Any] = {"eta": 0.5, "scheduler": "ddim", "num_inference_steps": 2, "generator": seed}
        return pipe.generate("text", [context], negative=negative, **how).texts[0]

    assert json.loads(result.stdout)[0]["text"] == written([Context("image", "b.png")])
    assert written([Context("image", "b.png")]) != written(None)


def test_a_grid_is_one_picture_with_a_row_and_a_column_for_each_level(model: Path) -> None:
    levels = ["--focus", "0,0.5,1", "--fidelity", "0,0.6"]
    result = make(model, "image-variation", "a.png", *levels, "--grid", "--seed", 1)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["outputs/a-grid-1.png"]
    height, width, _ = pixels("outputs/a-grid-1.png").shape
    assert 3 * 128 < width < 4 * 128 and 2 * 128 < height < 3 * 128
    assert Image.open("outputs/a-grid-1.png").info["focus"] == "0,0.5,1"


def test_several_levels_without_a_grid_are_several_pictures(model: Path) -> None:
    result = make(model, "image-variation", "a.png", "--focus", "0,0.5", "--seed", 1)
    assert result.exit_code == 0, result.output
    low, middle = result.stdout.split()
    assert Image.open(low).info["focus"] == "0.0"
    make(model, "image-variation", "a.png", "--seed", 1, "-o", "one.png")
    assert (pixels(middle) == pixels("one.png")).all()


def test_grids_are_labelled() -> None:
    cell = Image.new("RGB", (64, 64), "white")
    plain, labelled = (labelled_grid([[cell, cell]], [""], labels) for labels in (["", ""], ["focus 0", "focus 1"]))
    assert np.asarray(plain).min() == 255 and np.asarray(labelled).min() < 100


def test_every_scheduler_has_its_name() -> None:
    assert [name.value for name in SchedulerName] == list(SCHEDULERS)


@pytest.mark.usefixtures("nothing_computed")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["blend", *FOUR, "--mask", "e.png=mask.png"], "needs one of a.png, b.png, c.png, d.png"),
        (["blend", *FOUR, "--mask", "mask.png"], "needs one of a.png"),
        (["blend", *FOUR, "--mask", "b.png=mask.png", "--mask", "b.png=black.png"], "b.png has two of them"),
        (["blend", "--text", "a", "--mask", "a.png=mask.png"], "needs something to give it to"),
        (["blend", "--image", "a.png", "--mask", "black.png"], "mask is all zero"),
        (["blend", *FOUR, "--focus", "b.png=1.5"], "focus must lie between 0"),
        (["blend", *FOUR, "--focus", "some"], "takes a number between 0 and 1"),
        (["blend", *FOUR, "--focus", "0.1", "--focus", "0.2"], "two values for all"),
        (["generate", "image", "--embedding", "tokens.npy"], "must say what it is"),
        (["generate", "image", "--embedding", "image=two.npz"], "holds a, b: keep one"),
        (["generate", "image", "--embedding", "image=none.npy"], "There is no file none.npy"),
        (["generate", "image", "--embedding", "image=cut.npz"], "Cannot read arrays from cut.npz"),
        (
            ["generate", "image", "--embedding", "image=words.npy"],
            "the array in words.npy must be a tensor or an array of numbers",
        ),
        (["generate", "image", "--latents", "empty.npy", "--text", "a"], "Cannot read arrays from empty.npy"),
        (["generate", "image", "--text", "a", "--strength", "0.5"], "needs a --start"),
        (["image-variation", "a.png", "--fidelity", "1.5"], "--fidelity must lie between 0 and 1"),
        (["image-variation", "a.png", "--focus", "0;1"], "numbers with commas"),
        (["text-to-image", "a", "--guidance-interval", "0.2"], "takes two numbers"),
        (["text-to-image", "a", "--guidance-interval", "0.8,0.2"], "the smaller first"),
    ],
)
def test_bad_conditions_are_one_clear_message(arguments: list[str], message: str) -> None:
    result = vd(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("Error: ") and message in result.stderr


def test_files_may_be_named_without_their_folder() -> None:
    assert assigned("--mask", ["a.png=m", "y/b.png=n"], ["x/a.png", "x/b.png", "y/b.png"]) == ["m", None, "n"]
    with pytest.raises(ValueError, match="needs one of"):
        assigned("--mask", ["b.png=m"], ["x/b.png", "y/b.png"])
