"""examples/torchumm.py behind a stand-in of the harness: how a backbone is called, and what is read of its answers."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

EXAMPLE = Path(__file__).parents[3] / "examples" / "torchumm.py"
STEPS = {"num_inference_steps": 2}


class Harness:
    """Calls a backbone by keywords, as `InferencePipeline.run` of the harness does."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.backbone = runpy.run_path(str(EXAMPLE))["VersatileDiffusionBackbone"]()
        self.backbone.load(config)

    def run(
        self, task: str, prompt: str | None = None, images: Any = (), output_path: str | None = None, **params: Any
    ) -> Any:
        match task:
            case "generation":
                return self.backbone.generation(prompt=prompt, output_path=output_path, generation_cfg=params)
            case "editing":
                return self.backbone.editing(
                    prompt=prompt, images=list(images), output_path=output_path, editing_cfg=params
                )
            case _:
                return self.backbone.understanding(
                    prompt=prompt, images=list(images), videos=[], understanding_cfg=params
                )


def gathered(result: dict[str, Any]) -> list[Any]:
    """What its benchmarks count as pictures of a result."""
    return [
        *result.get("images", []),
        *result.get("saved_paths", []),
        *([result["image"]] if "image" in result else []),
    ]


@pytest.fixture(scope="module")
def harness(model: Path) -> Harness:
    config = {f"{task}_cfg": STEPS for task in ("generation", "understanding", "editing")}
    return Harness({"model_path": str(model), "seed": 7, "torch_dtype": "float32", "device": "cpu", **config})


def test_prompts_are_painted_each_time_anew(harness: Harness, tmp_path: Path) -> None:
    first, second = (harness.run("generation", "a red tent") for _ in range(2))
    assert len(gathered(first)) == len(gathered(second)) == 1
    assert np.asarray(first["images"][0]).tobytes() != np.asarray(second["images"][0]).tobytes()
    same = [harness.run("generation", "a red tent", seed=3)["images"][0].tobytes() for _ in range(2)]
    assert same[0] == same[1]
    saved = harness.run("generation", "a red tent", output_path=str(tmp_path / "new" / "a.png"), num_outputs=2)
    assert [Path(path).name for path in saved["saved_paths"]] == ["a.png", "a_1.png"]
    assert Image.open(saved["saved_paths"][1]).size == saved["images"][1].size


def test_pictures_are_described_and_changed(harness: Harness, picture: Image.Image, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    picture.save(file)
    asked = harness.run("understanding", "What is it?", [str(file)], seed=1)["text"]
    assert isinstance(asked, str) and asked == harness.run("understanding", None, [picture], seed=1)["text"]
    heard = harness.run("understanding", "a red tent", [str(file), picture], seed=1, prompt_weight=0.9, num_outputs=2)
    assert len(heard["texts"]) == 2
    assert isinstance(harness.run("understanding", "a red tent")["text"], str)
    (edited,) = gathered(harness.run("editing", "a blue tent", [picture]))
    assert isinstance(edited, Image.Image)
    with pytest.raises(ValueError, match="videos are not understood"):
        harness.run("understanding")
