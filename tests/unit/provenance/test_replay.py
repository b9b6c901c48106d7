"""Recipes, and `vd replay`."""

import base64
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.conftest import CAPTIONS
from tests.unit.cli.test_cli import PROMPT, empty_folder, file, make, nothing_computed, pixels, vd  # noqa: F401
from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.engine.computing import compute
from versatile_diffusion.engine.records import JobRecord, job_of
from versatile_diffusion.engine.requests import Edit, JobRequest
from versatile_diffusion.engine.results import JobResult
from versatile_diffusion.provenance.comparison import compared
from versatile_diffusion.provenance.inputs import named, restored, stored
from versatile_diffusion.provenance.output_files import read_outputs
from versatile_diffusion.provenance.record import CHUNK, BatchRecord, Computed, ContextRecord, Input, Record
from versatile_diffusion.provenance.recording import computed_by, record_of
from versatile_diffusion.provenance.replay import replayed
from versatile_diffusion.provenance.stored_record import NoRecord, StoredRecord, parse_record
from versatile_diffusion.serving.schemas import outputs

SAME = "The same picture, pixel for pixel."
GIVEN = ("given.png", "other.png", "deep.png", "mask.png", "tokens.npy", "noise.npy", "list.jsonl", "scans.npz")
COMMANDS: dict[str, list[Any]] = {
    "text-to-image": ["text-to-image", PROMPT, "two houses", "-n", 2, "--negative", "sea", "--eta", 0.5],
    "image-variation": [
        *("image-variation", "given.png", "-n", 2, "--fidelity", "0,0.4", "--focus", 0.2, "--color-adjust"),
        *("--negative-image", "other.png"),
    ],
    "blend": ["blend", "--image", "given.png:0.5", "--text", "a tent:0.5", "--image", "other.png:0.2"],
    "masks": [
        *("generate", "image", "--image", "given.png:0.5", "--image", "other.png:0.5", "--mask", "other.png=mask.png"),
        *("--focus", "given.png=0.9", "--start", "deep.png", "--strength", 0.6, "--colors-of", "other.png"),
    ],
    "embeddings": [
        *("generate", "image", "--embedding", "image=tokens.npy", "--unconditional", "zeros", "--latents", "noise.npy"),
        *("--scheduler", "unipc", "--guidance-interval", "0.2,0.8", "--height", 32, "--width", 32),
    ],
    "edit": ["edit", "given.png", "--remove", "house", "--add", "tent", "--strength", 0.7, "-n", 2],
    "edit, latent": ["edit", "given.png", "--add", "tent", "--method", "latent"],
    "batch": ["batch", "list.jsonl", "-n", 2, "--batch-size", 3],
    "reconstruct": ["reconstruct", "scans.npz", "-n", 2, "--strength", 0.8, "--rank-by", "image"],
    "openvino": ["text-to-image", PROMPT, "--backend", "openvino"],
}


@pytest.fixture
def inputs(file: Path, picture: Image.Image) -> None:  # noqa: F811
    draw = np.random.default_rng(3)
    picture.transpose(Image.Transpose.ROTATE_90).convert("LA").save("other.png")
    Image.fromarray(draw.integers(0, 65535, (24, 20)).astype(np.uint16)).save("deep.png")
    Image.linear_gradient("L").resize((30, 40)).save("mask.png")
    tokens, latents = (draw.normal(size=shape).astype(np.float32) for shape in ((2, 5, 24), (2, 4, 16, 16)))
    np.save("tokens.npy", tokens)
    np.save("noise.npy", latents)
    np.savez("scans.npz", image=tokens, start=latents)
    entries = [{"text": CAPTIONS[0]}, {"image": "given.png"}, {"text": CAPTIONS[1], "image": "other.png"}]
    Path("list.jsonl").write_text("\n".join(map(json.dumps, entries)))


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_pictures_of_every_command_are_made_again_pixel_for_pixel(model: Path, arguments: list[Any]) -> None:
    made = make(model, *arguments, "--seed", 5, "--output", "made")
    assert made.exit_code == 0, made.output
    for name in GIVEN:
        Path(name).unlink()  # all that is needed is in the picture
    pictures = sorted(Path("made").glob("*.png"))
    assert pictures
    for path in pictures:
        result = vd("replay", path, "--model", model, "--output", "again.png", "--overwrite")
        assert result.exit_code == 0 and SAME in result.stderr, result.output
        assert (pixels("again.png") == pixels(path)).all()
    assert SAME in vd("replay", "again.png", "--model", model).stderr


def test_latents_to_start_from_are_recorded_alike_in_any_form(pipe: VersatileDiffusionPipeline) -> None:
    latents = (2 * torch.randn(1, 4, 16, 16)).long().float()

    def recorded(start: object) -> Any:
        options: dict[str, Any] = {"strength": 0.5, "num_inference_steps": 2, "output_type": "latent"}
        draw = torch.Generator().manual_seed(3)
        made = pipe.generate("image", Context("text", CAPTIONS[0]), start=start, generator=draw, **options)
        return record_of(made.origins[0], computed_by(pipe, "tiny")).record.start

    for form in (latents.numpy().astype(">f8"), latents.long(), latents.long().tolist(), list(latents)):
        assert recorded(form) == recorded(latents)


@pytest.mark.slow
def test_pictures_of_a_batch_are_made_again_in_bfloat16_too(empty_folder: Path) -> None:  # noqa: F811
    for dtype in ("bf16", "fp32"):
        many = ["text-to-image", CAPTIONS[0], CAPTIONS[1], "--seed", 4, "--steps", 4, "--device", "cpu"]
        assert vd(*many, "--dtype", dtype, "-o", dtype).exit_code == 0
        for path in sorted(Path(dtype).iterdir()):
            assert SAME in vd("replay", path).stderr


@pytest.mark.usefixtures("inputs")
def test_texts_are_made_again_from_what_json_prints(model: Path) -> None:
    made = make(model, "image-to-text", "given.png", "other.png", "-n", 2, "--temperature", 0.9, "--json")
    Path("texts.json").write_text(made.stdout)
    findings = json.loads(vd("replay", "texts.json", "--model", model, "--json").stdout)
    assert [finding["text"] for finding in findings] == [one["text"] for one in json.loads(made.stdout)]
    assert all(finding["same"] for finding in findings)


def test_what_the_server_made_in_a_batch_is_made_again(pipe: VersatileDiffusionPipeline, picture: Image.Image) -> None:
    tree = Context("text", CAPTIONS[3], weight=0.5)
    begun: dict[str, Any] = {"num_inference_steps": 2, "strength": 0.5}
    asked = [
        JobRequest.of(
            "tiny", "image", [tree, Context("image", shown, focus=0.3)], seeds, start=shown, colors_of=shown, **begun
        )
        for shown, seeds in ((picture, (5, 6)), (picture.rotate(90), (7,)))
    ]
    seen = [Context("image", picture)]
    edits = [JobRequest.of("tiny", "image", seen, (8, 9), num_inference_steps=2, edit=Edit(add="tent"))]
    computed = [*compute(pipe, asked, lambda *_: {0, 1}), *compute(pipe, edits, lambda *_: {0})]
    for request, made in zip([*asked, *edits], computed, strict=True):
        assert isinstance(made, JobResult)
        for output in outputs("image", request.summary, JobRecord.of(request), request.seeds, made):
            image = Image.open(io.BytesIO(base64.b64decode(output.image or "")))
            kept = parse_record(image.info[CHUNK])
            assert (np.asarray(replayed(pipe, kept)) == np.asarray(image)).all()
            (alone,) = compute(pipe, [job_of(kept, "tiny")], lambda *_: {0})
            assert isinstance(alone, JobResult) and compared(image, alone.items[0]).get("difference", 9) <= 1


def test_what_was_left_of_a_batch_is_made_again(pipe: VersatileDiffusionPipeline) -> None:
    contexts = [(Context("text", caption),) for caption in CAPTIONS]
    asked = [
        JobRequest.of("tiny", "image", one, (i, i + 9), num_inference_steps=4, eta=0.5)
        for i, one in enumerate(contexts)
    ]
    results = compute(pipe, asked, lambda step, *_: {1: {0, 2, 3}, 2: {0, 2, 3}, 3: {2, 3}, 4: {2}}[step])
    assert [result is None for result in results] == [True, True, False, True]
    made = results[2]
    assert isinstance(made, JobResult)
    for output in outputs("image", asked[2].summary, JobRecord.of(asked[2]), asked[2].seeds, made):
        image = Image.open(io.BytesIO(base64.b64decode(output.image or "")))
        kept = parse_record(image.info[CHUNK])
        assert [len(remainder.rows) for remainder in kept.record.batch.remainders] == [6, 4, 2]
        assert (np.asarray(replayed(pipe, kept)) == np.asarray(image)).all()


# ---- inputs ----


def test_large_inputs_lie_beside_the_picture_once(model: Path) -> None:
    large = Image.effect_noise((900, 700), 60).convert("RGB")
    large.save("large.png")
    assert make(model, "image-variation", "large.png", "-n", 2, "--seed", 1, "-o", "made").exit_code == 0
    (stored_one,) = Path("made/inputs").iterdir()
    assert len(Image.open("made/large-1.png").info[CHUNK]) < 2000
    Path("large.png").rename("kept.png")
    assert SAME in vd("replay", "made/large-2.png", "--model", model).stderr

    stored_one.rename("elsewhere.png")
    result = vd("replay", "made/large-2.png", "--model", model)
    assert result.exit_code == 1
    assert f"700 × 900 × 3, sha256 {stored_one.stem}" in result.stderr and "--input" in result.stderr
    assert SAME in vd("replay", "made/large-2.png", "--model", model, "--input", "kept.png").stderr


def test_a_stored_input_that_was_changed_is_not_taken(model: Path) -> None:
    Image.effect_noise((900, 700), 60).convert("RGB").save("large.png")
    make(model, "image-variation", "large.png", "--seed", 1, "-o", "made")
    (stored_one,) = Path("made/inputs").iterdir()
    Image.new("RGB", (900, 700)).save(stored_one)
    assert "Inputs are missing" in vd("replay", "made/large-1.png", "--model", model).stderr


SHAPES = st.one_of(
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)), st.tuples(st.integers(1, 9), st.integers(1, 9))
)


@given(shape=SHAPES, seed=st.integers(0, 99), floats=st.sampled_from([None, torch.float32, torch.bfloat16]))
def test_stored_inputs_come_back_as_they_were(shape: tuple[int, ...], seed: int, floats: torch.dtype | None) -> None:
    drawn = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    value = drawn if floats is None else drawn.to(floats) / 7
    again = restored(stored(value))
    assert again.dtype == value.dtype and torch.equal(again, value)
    assert named(again) == named(value)


# ---- recipes ----

VALUES = st.integers(0, 99).map(lambda n: torch.full((2, 3, 3), n, dtype=torch.uint8))
WEIGHTS = st.floats(0, 10)


@st.composite
def stored_records(draw: st.DrawFn) -> StoredRecord:
    values = draw(st.lists(VALUES, min_size=1, max_size=3))
    names = st.sampled_from([named(value) for value in values])
    contexts = st.one_of(
        st.builds(ContextRecord, modality=st.just("text"), data=st.text(max_size=9), weight=WEIGHTS),
        st.builds(ContextRecord, modality=st.just("image"), data=names, mask=st.none() | names, focus=st.floats(0, 1)),
        st.builds(ContextRecord, modality=st.just("image"), embedding=names, unconditional=st.just("zeros") | names),
    )
    to = draw(st.sampled_from(["image", "text"]))
    decoding = {"colors_of": names} if to == "image" else {"temperature": st.floats(0, 2), "top_k": st.integers(1, 9)}
    several = st.lists(contexts, min_size=1, max_size=3).map(tuple)
    recipe = draw(
        st.builds(
            Record,
            to=st.just(to),
            contexts=several,
            negative=several | st.just(()),
            seed=st.integers(0, 2**64 - 1),
            num_inference_steps=st.integers(1, 1000),
            guidance_scale=st.floats(-20, 20),
            guidance_interval=st.none() | st.just((0.2, 0.8)),
            start=st.none() | names,
            scheduler=st.sampled_from([None, "unipc", "ddim"]),
            decoding=st.just({}) | st.fixed_dictionaries(decoding),
            batch=st.builds(BatchRecord, items=st.integers(9, 12), row=st.integers(0, 8)),
            computed=st.builds(Computed, model=st.text(max_size=9), dtype=st.sampled_from(["bf16", "fp32"])),
        )
    )
    return StoredRecord(recipe).with_inputs(values)


@given(kept=stored_records())
def test_recipes_survive_being_written_down(kept: StoredRecord) -> None:
    again = parse_record(kept.json)
    assert again.record == kept.record
    assert not again.missing and set(again.inputs) == set(kept.record.inputs)
    assert again.json == kept.json


# ---- what a file may hold ----


def png_with(**chunks: str) -> Path:
    info = PngInfo()
    for key, text in chunks.items():
        info.add_text(key, text)
    Image.new("RGB", (4, 4)).save("odd.png", pnginfo=info)
    return Path("odd.png")


def written(**changes: Any) -> str:
    recipe = {
        "format": 1, "to": "image", "contexts": [{"modality": "text", "data": "a tent"}], "seed": 1,
        "num_inference_steps": 2, "guidance_scale": 7.5, "computed": {"model": "postcards"},
    }  # fmt: skip
    return json.dumps(recipe | changes)


SECRET = {"sha256": "../" * 20 + "0123", "shape": [1]}
HOSTILE = {
    "no JSON": ("{", "cannot be used"),
    "deep": ("[" * 100_000, "cannot be used"),
    "a list": ("[1]", "format None"),
    "later": (written(format=2), "format 2"),
    "unknown field": (written(callback="os.system"), "callback"),
    "a path": (written(contexts=[{"modality": "image", "data": SECRET}]), "sha256"),
    "a path as a picture": (written(contexts=[{"modality": "image", "data": "/etc/passwd"}]), "pictures are inputs"),
    "infinite": (written(guidance_scale=1e999), "guidance_scale"),
    "many steps": (written(num_inference_steps=10**9), "num_inference_steps"),
    "no row of its batch": (written(batch={"items": 2, "row": 2}), "batch"),
    "a row that left": (written(batch={"items": 2, "remainders": [{"step": 1, "rows": [1]}]}), "batch"),
    "inputs that are none": (written(inputs=7), "cannot be used"),
    "huge": (written(seed=1) + " " * 10**7, "longer than"),
}


@pytest.mark.usefixtures("nothing_opened")
@pytest.mark.parametrize(("text", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_recipes_are_refused_in_words(text: str, message: str) -> None:
    for given_file in (png_with(request=text), Path("odd.json")):
        Path("odd.json").write_text(text)
        result = vd("replay", given_file)
        assert result.exit_code == 1 and "Traceback" not in result.output
        assert given_file.suffix == ".json" or message in result.stderr, result.stderr


@pytest.fixture
def nothing_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the model was opened")

    monkeypatch.setattr("versatile_diffusion.cli.replay.open_pipeline", fail)


@pytest.mark.usefixtures("nothing_opened")
def test_a_recipe_opens_no_model_that_the_user_does_not_name(tmp_path: Path) -> None:
    path = png_with(request=written(computed={"model": "someone/elses-model"}))
    assert "someone/elses-model" in (result := vd("replay", path)).stderr and "--model" in result.stderr
    path = png_with(request=written(computed={"model": "postcards", "loras": ["/a/folder"]}))
    assert "--lora" in vd("replay", path).stderr


@pytest.mark.usefixtures("nothing_opened")
def test_a_compressed_bomb_of_text_is_refused() -> None:
    info = PngInfo()
    info.add_text(CHUNK, "a" * 10**8, zip=True)
    Image.new("RGB", (4, 4)).save("odd.png", pnginfo=info)
    result = vd("replay", "odd.png")
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert result.stderr.startswith("Error: ") and len(result.stderr) < 1000


@pytest.mark.usefixtures("nothing_opened")
def test_files_without_a_recipe_are_told_apart() -> None:
    Image.new("RGB", (4, 4)).save("plain.png")
    assert "holds no recipe" in vd("replay", "plain.png").stderr
    Path("text.png").write_text("words")
    assert "no PNG" in vd("replay", "text.png").stderr
    with pytest.raises(NoRecord, match="no recipe"):
        Path("other.json").write_text("{}")
        read_outputs(Path("other.json"))


def test_what_differs_is_said_with_its_reasons(model: Path) -> None:
    make(model, "text-to-image", PROMPT, "--seed", 1, "-o", "one.png")
    image = Image.open("one.png")
    entries = json.loads(image.info[CHUNK])
    entries["computed"]["version"] = "0.0.1"
    changed = np.asarray(image).copy()
    changed[0, 0] ^= 1
    info = PngInfo()
    info.add_text(CHUNK, json.dumps(entries))
    Image.fromarray(changed).save("one.png", pnginfo=info)
    result = vd("replay", "one.png", "--model", model)
    assert "The same but for rounding: 0.1% of the pixels differ, by 1/255 at most." in result.stderr
    assert "the version of versatile-diffusion was 0.0.1" in result.stderr
    shutil.copy("one.png", "two.png")
    (finding,) = json.loads(vd("replay", "two.png", "--model", model, "--json").stdout)
    assert (finding["same"], finding["difference"]) == (False, 1) and finding["because"]


def test_inputs_name_their_shape() -> None:
    assert str(Input(sha256="0" * 64, shape=(2, 3))) == "2 × 3, sha256 " + "0" * 64


# ---- nothing is lost ----


def test_outputs_are_written_without_a_record_that_cannot_be_made(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("the batch is too large")

    monkeypatch.setattr("versatile_diffusion.provenance.recording.record_of", fail)
    result = make(model, "text-to-image", PROMPT, "--seed", 1, "-o", "one.png")
    assert result.exit_code == 0 and "without its recipe, which cannot be kept: the batch is too large" in result.stderr
    told = Image.open("one.png").info
    assert told["prompt"] == PROMPT and CHUNK not in told


def test_a_record_holds_as_many_outputs_as_a_request_may_have() -> None:
    limit = 65536  # see `pipeline.request.Count`
    assert BatchRecord(num_outputs=limit, row=limit - 1).num_outputs == limit
    with pytest.raises(ValueError, match="not of its batch"):
        BatchRecord(num_outputs=2, row=2)


@pytest.mark.usefixtures("nothing_computed")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "b", "-n", 40000], "80000 outputs are asked for"),
        (["a", "-n", 2, "--seed", 2**64 - 1], "leaves no room for 2 seeds"),
    ],
)
def test_limits_are_checked_before_anything_is_computed(arguments: list[Any], message: str) -> None:
    result = vd("text-to-image", *arguments)
    assert result.exit_code == 1 and message in result.stderr
