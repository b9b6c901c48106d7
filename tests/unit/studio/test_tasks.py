"""What the studio asks of the engine for what was filled in, without a browser."""

import base64
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load

from versatile_diffusion.engine.requests import Edit, JobRequest
from versatile_diffusion.engine.workers import ModelInfo
from versatile_diffusion.modalities.size_range import SizeRange
from versatile_diffusion.pipeline.request import Request
from versatile_diffusion.provenance import png
from versatile_diffusion.serving.schemas import OutputOut, generate_model
from versatile_diffusion.serving.uploads import Uploads
from versatile_diffusion.studio.controls import MaskedImage, MissingInput, NamedFile
from versatile_diffusion.studio.examples import examples_of
from versatile_diffusion.studio.history import History
from versatile_diffusion.studio.options import (
    OWN,
    RANDOM,
    advanced_controls,
    fields_asked,
    initial_values,
    own_guidance_scale,
    title,
)
from versatile_diffusion.studio.results_store import ResultsStore, stored_form
from versatile_diffusion.studio.tasks import TASKS, StudioTask
from versatile_diffusion.worlds.postcards import Scene, render

LIGHTHOUSE = png(Image.fromarray(render(Scene("sea", "sunset", "clear", "lighthouse", "red", "middle", "postcard", 3))))
BY_KEY = {task.key: task for task in TASKS}


BOTH = ("image", "text")
MODELS = {"postcards": ModelInfo(BOTH, BOTH, {"image": 3.0}, {"image": SizeRange.of(64)})}


def filled(task: StudioTask, **values: Any) -> dict[str, Any]:
    """What a tab holds where only this was filled in."""
    controls = [*task.controls, *advanced_controls(task.to, MODELS["postcards"])]
    return {"model": "postcards", **initial_values(controls), **values}


def job(key: str, **values: Any) -> JobRequest:
    task = BY_KEY[key]
    read = generate_model().model_validate(fields_asked(task, filled(task, **values)))
    return read.read(Uploads({}, 10**7), MODELS)


def request(key: str, **values: Any) -> Request:
    return job(key, **values).request


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.key)
def test_examples_can_be_asked_for_and_empty_tabs_say_what_to_do(task: StudioTask) -> None:
    examples = examples_of(task.key)
    assert len(examples) >= 2
    for example in examples:
        made = request(task.key, **example.values)
        assert made.to == task.to and made.num_inference_steps == 8 and made.scheduler == "dpm"
    with pytest.raises(MissingInput, match=r"[a-z]+: .+\.$"):
        fields_asked(task, filled(task))


def test_options_become_those_of_the_pipeline() -> None:
    how = {"steps": 12, "scheduler": OWN, "eta": 0.5, "negative": " rain ", "seed": 7, "num_outputs": 3}
    previewed = job("text-to-image", prompt=" a tent ", **how, guidance_scale=2.5)
    made = previewed.request
    assert (made.num_inference_steps, made.scheduler, made.eta, made.seeds) == (12, None, 0.5, (7, 8, 9))
    assert (made.contexts[0].data, made.negative[0].data, made.guidance_scale) == ("a tent", "rain", 2.5)
    assert previewed.preview_every == 2
    assert request("text-variation", prompt="a tent", temperature=0.0).decoding == {"temperature": 0.0}
    assert len({request("text-to-image", prompt="a tent", seed=RANDOM).seeds for _ in range(4)}) > 1


def test_each_model_has_its_own_guidance_scale() -> None:
    painter = ModelInfo(("image",), ("text",), {"image": 3.0}, {"image": SizeRange.of(64)})
    assert own_guidance_scale(painter, "image") == 3.0
    assert own_guidance_scale(painter, "text") == 7.5


def test_variations_keep_what_was_asked_for() -> None:
    picture = LIGHTHOUSE
    free = request("image-variation", picture=picture, fidelity=0)
    assert free.start is None and "colors_of" not in free.decoding
    near = request("image-variation", picture=picture, fidelity=0.25, focus=0.1, colors=True)
    assert near.strength == 0.75 and near.contexts[0].focus == 0.1
    begun, colored = near.start, near.decoding["colors_of"]
    assert isinstance(begun, Image.Image) and isinstance(colored, Image.Image)
    assert begun.tobytes() == colored.tobytes() == Image.open(BytesIO(picture)).tobytes()


def test_mixtures_take_masks_and_weights() -> None:
    picture, mask = LIGHTHOUSE, png(Image.new("L", (256, 256), 255))
    shares = {"weight2": 0.3, "focus2": 0.9, "weight": 0.6}
    made = request("multi-context", picture2=MaskedImage(picture, mask), picture4=picture, prompt="a tent", **shares)
    assert [context.modality for context in made.contexts] == ["image", "image", "text"]
    assert [context.weight for context in made.contexts] == [0.3, 1.0, 0.6]
    seen = made.contexts[0].mask
    assert isinstance(seen, Image.Image) and seen.getextrema() == (255, 255) and made.contexts[1].mask is None
    with pytest.raises(MissingInput, match="weights are 0"):
        request("multi-context", picture1=picture, weight1=0.0)
    dual = request("dual-context", prompt="a tent", picture=picture, share=0.7)
    assert [round(context.weight, 6) for context in dual.contexts] == [0.7, 0.3]


def test_edits_are_changes_of_one_picture() -> None:
    edit = job("edit", picture=LIGHTHOUSE, remove="lighthouse", add="tent", strength=0.9)
    made = edit.request
    assert edit.edit is not None and dict(edit.edit) == dict(Edit(remove="lighthouse", add="tent", text_share=0.8))
    assert made.strength == 0.9 and made.start is not None and len(made.contexts) == 1
    assert title(BY_KEY["edit"], {"prompt": "", "remove": "a", "add": "b"}) == "a · b"


def embeddings(name: str, tmp_path: Path, **arrays: Any) -> NamedFile:
    file = tmp_path / name
    np.save(file, arrays["image"]) if name.endswith(".npy") else np.savez(file, **arrays)
    return NamedFile(name, file.read_bytes())


def test_rows_of_embeddings_become_contexts(tmp_path: Path) -> None:
    image, text = (np.random.default_rng(i).standard_normal((2, 5, 4)).astype("float32") for i in range(2))
    both = embeddings("a.npz", tmp_path, image=image, text=text)
    made = request("reconstruct", file=both, scan=1, share=0.75)
    assert [(context.modality, context.weight) for context in made.contexts] == [("image", 0.75), ("text", 0.25)]
    assert made.contexts[0].embedding is not None
    torch.testing.assert_close(made.contexts[0].embedding[0], torch.tensor(image[1]))
    alone = request("reconstruct", file=embeddings("a.npy", tmp_path, image=image[0]))
    assert [(context.modality, context.weight) for context in alone.contexts] == [("image", 1.0)]
    with pytest.raises(ValueError, match=r"a\.npz holds 2 scans: choose one from 0 to 1"):
        request("reconstruct", file=both, scan=2)
    with pytest.raises(ValueError, match=r"Cannot read arrays from a\.npz"):
        request("reconstruct", file=NamedFile("a.npz", b"none"))
    whole = embeddings("c.npz", tmp_path, image=np.asfortranarray((8 * image).round().astype(">i8")))
    [context] = request("reconstruct", file=whole, scan=1).contexts
    assert context.embedding is not None
    torch.testing.assert_close(context.embedding[0], torch.tensor((8 * image[1]).round()))
    file = embeddings("b.npy", tmp_path, image=image)
    asked: dict[str, Any] = fields_asked(BY_KEY["reconstruct"], filled(BY_KEY["reconstruct"], file=file))
    [field] = asked["contexts"]
    assert list(load(base64.b64decode(field["embedding"]))) == ["embedding"]


# ---- keeping ----


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ResultsStore]:
    store = ResultsStore(History(tmp_path / "history"), History(tmp_path / "spare"))
    yield store
    for history in (store.history, store.spare):
        history.close()


def test_what_was_filled_in_comes_back_from_the_history(store: ResultsStore) -> None:
    picture, mask = LIGHTHOUSE, png(Image.new("L", (256, 256), 9))
    values = {"model": "m", "picture": picture, "painted": MaskedImage(picture, mask), "plain": MaskedImage(mask)}
    values |= {"file": NamedFile("a.npy", b"array"), "nothing": None, "share": 0.5, "steps": 8}
    output = OutputOut(seed=9, text="a tent", request={"to": "text"})
    entry, problem = store.keep(BY_KEY["image-to-text"], values, output, {"b" * 64 + ".png": b"given"})
    assert problem is None and (entry.seed, entry.text) == (9, "a tent")
    assert store.values_of(entry) == values
    form, inputs = stored_form(values)
    assert len(inputs) == 3 and form["picture"] == {"input": next(iter(inputs))}
    assert store.history.input("b" * 64 + ".png").read_bytes() == b"given"


def test_results_that_cannot_be_kept_are_shown_all_the_same(
    store: ResultsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(new: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.history, "add", full)
    values = {"model": "m", "picture": LIGHTHOUSE}
    content = png(Image.new("RGB", (8, 8)), {"request": "{}"})
    output = OutputOut(seed=9, image=base64.b64encode(content).decode())
    entry, problem = store.keep(BY_KEY["image-variation"], values, output, {})
    assert isinstance(problem, OSError) and entry.file.read_bytes() == content
    assert store.values_of(entry) == values and store.history.entries() == []
