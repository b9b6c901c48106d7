"""Graphs of nodes, as ComfyUI checks and runs them."""

import sys
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.unit.comfyui.comfy import CORE, Graph, check, execute, inputs_of, read_workflow
from versatile_diffusion import Context, VersatileDiffusionPipeline, __version__
from versatile_diffusion.cli import app
from versatile_diffusion.comfyui.folder import SOURCE, write_nodes
from versatile_diffusion.comfyui.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from versatile_diffusion.comfyui.sockets import read_masks, socket_of
from versatile_diffusion.comfyui.values import Latents, LoadedModel
from versatile_diffusion.comfyui.widgets import OWN_NUMBER
from versatile_diffusion.pipeline.lora import add_lora, save_lora
from versatile_diffusion.sampling.options import Sampling

NODES: dict[str, Any] = {**CORE, **NODE_CLASS_MAPPINGS}
WORKFLOW = SOURCE / "example_workflows" / "mix_and_describe.json"
STEPS = {"num_inference_steps": 2}


def node(kind: str, **inputs: object) -> dict[str, Any]:
    name = kind if kind in CORE else f"VersatileDiffusion{kind}"
    return {"class_type": name, "inputs": inputs}


def giving(types: tuple[str, ...], *values: object) -> Any:
    """A node that gives these values."""
    members = {"RETURN_TYPES": types, "FUNCTION": "give", "give": lambda self: values}
    return type("Given", (), {"INPUT_TYPES": classmethod(lambda cls: {"required": {}}), **members})


def sampled(to: str, **inputs: object) -> Graph:
    """A graph from words to what is decoded of them at 4, which 5 shows. The model comes from a node Opened."""
    options = {"to": to, "seed": 5, "num_outputs": 1, **STEPS, **inputs}
    return {
        "1": {"class_type": "Opened", "inputs": {}},
        "2": node("ContextText", data="a red tent in the meadow"),
        "3": node("Sample", **{"model": ["1", 0], "contexts": ["2", 0], **options}),
        "4": node(f"Decode{to.capitalize()}", latent=["3", 0]),
        "5": node("SaveImage", images=["4", 0], filename_prefix="")
        if to == "image"
        else node("PreviewAny", source=["4", 0]),
    }


@pytest.fixture
def nodes(pipe: VersatileDiffusionPipeline) -> dict[str, Any]:
    return {**NODES, "Opened": giving(("VD_MODEL",), LoadedModel(pipe))}


def test_every_node_says_what_comfyui_reads_of_it() -> None:
    assert NODE_DISPLAY_NAME_MAPPINGS.keys() == NODE_CLASS_MAPPINGS.keys()
    for cls in NODE_CLASS_MAPPINGS.values():
        assert callable(getattr(cls, cls.FUNCTION)) and cls.DESCRIPTION and cls.CATEGORY == "Versatile Diffusion"
        assert len(cls.RETURN_TYPES) == len(cls.RETURN_NAMES)
        for kind, shown in inputs_of(cls).values():
            assert isinstance(kind, str | list) and isinstance(shown, dict)


def test_every_option_of_sampling_is_an_input() -> None:
    inputs = inputs_of(NODE_CLASS_MAPPINGS["VersatileDiffusionSample"])
    assert Sampling.model_fields.keys() <= inputs.keys() and {"temperature", "seconds"} <= inputs.keys()
    kind, shown = inputs["num_inference_steps"]
    assert (kind, shown["default"], shown["min"], shown["max"]) == ("INT", OWN_NUMBER, OWN_NUMBER, 1000)
    assert inputs["strength"][1] | {"tooltip": ""} == {
        "default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01, "round": False, "tooltip": "",
    }  # fmt: skip


def test_pictures_are_those_of_the_pipeline(nodes: dict[str, Any], pipe: VersatileDiffusionPipeline) -> None:
    (images,) = execute(nodes, sampled("image", num_outputs=2))["5"]["images"]
    seeds = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    own = pipe.text_to_image("a red tent in the meadow", num_outputs=2, generator=seeds, output_type="np", **STEPS)
    assert images.shape == own.images.shape and images.dtype == torch.float32
    torch.testing.assert_close(images, torch.as_tensor(own.images), atol=1e-4, rtol=0)


def test_texts_are_those_of_the_pipeline_and_are_passed_on_one_by_one(
    nodes: dict[str, Any], pipe: VersatileDiffusionPipeline
) -> None:
    shown = execute(nodes, sampled("text", temperature=0.7, num_outputs=2))
    seeds = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    own = pipe.text_variation("a red tent in the meadow", num_outputs=2, generator=seeds, temperature=0.7, **STEPS)
    assert shown["4"]["text"] == shown["5"]["text"] == own.texts


def test_the_example_runs(model: Path) -> None:
    graph = read_workflow(NODES, WORKFLOW)
    assert check(NODES, graph) == []
    graph["1"]["inputs"]["source"] = str(model)
    shown = execute(NODES, graph)
    assert shown["8"]["images"][0].ndim == 4 and shown["12"]["text"] == shown["11"]["text"]


def test_contexts_are_mixed_by_weight_with_masks_and_a_start(
    nodes: dict[str, Any], pipe: VersatileDiffusionPipeline
) -> None:
    graph = sampled("image", contexts=["8", 0], start=["9", 0], strength=0.5, negative=["2", 0])
    picture, mask = torch.rand(1, 24, 24, 3), torch.ones(1, 24, 24)
    mask[:, :12] = 0
    graph |= {
        "6": {"class_type": "Given", "inputs": {}},
        "7": node("ContextImage", data=["6", 0], mask=["6", 1], focus=0.2, weight=1.0, unconditional="zeros"),
        "8": node("Mix", a=["2", 0], b=["7", 0], weight_a=0.7, weight_b=0.3),
        "9": node("EncodeImage", model=["1", 0], data=["6", 0]),
    }
    given = giving(("IMAGE", "MASK"), picture, mask)
    (images,) = execute({**nodes, "Given": given}, graph)["5"]["images"]
    image, words = picture.movedim(-1, 1), "a red tent in the meadow"
    seen = Context("image", image, mask=mask[0], focus=0.2, weight=0.3, unconditional="zeros")
    seed = torch.Generator().manual_seed(5)
    given = {"negative": words, "start": image, "strength": 0.5, "generator": seed, "output_type": "np", **STEPS}
    own = pipe.generate("image", [Context("text", words, weight=0.7), seen], **given)
    torch.testing.assert_close(images, torch.as_tensor(own.images), atol=1e-4, rtol=0)


def test_an_embedding_is_what_its_data_is(
    nodes: dict[str, Any], pipe: VersatileDiffusionPipeline, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.npy"
    np.save(file, pipe.encode_context("text", "a red tent in the meadow")[0].numpy())
    (of_tokens,) = execute(nodes, sampled("image") | {"2": node("Embedding", path=str(file), modality="text")})["5"][
        "images"
    ]
    (of_words,) = execute(nodes, sampled("image"))["5"]["images"]
    torch.testing.assert_close(of_tokens, of_words, atol=1e-4, rtol=0)


def test_a_lora_is_that_of_its_own_branch_alone(model: Path, tmp_path: Path) -> None:
    pipe = VersatileDiffusionPipeline.from_pretrained(model)
    add_lora(pipe.diffuser, rank=2, layers="cross-attention", modality="text")
    for name, weight in pipe.diffuser.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    save_lora(pipe.diffuser, tmp_path / "lora")
    pipe.unload_lora()
    nodes = {**NODES, "Opened": giving(("VD_MODEL",), LoadedModel(pipe))}
    (before,) = execute(nodes, sampled("image"))["5"]["images"]
    graph = sampled("image")
    graph["6"] = node("LoRA", model=["1", 0], path=str(tmp_path / "lora"), scale=1.0)
    graph["7"] = node("Sample", **graph["3"]["inputs"] | {"model": ["6", 0]})
    graph["8"] = node("DecodeImage", latent=["7", 0])
    graph["9"] = node("SaveImage", images=["8", 0], filename_prefix="")
    shown = execute(nodes, {key: graph[key] for key in ("1", "2", "6", "7", "8", "9", "3", "4", "5")})  # it first
    torch.testing.assert_close(shown["5"]["images"][0], before, atol=1e-4, rtol=0)
    assert not torch.allclose(shown["9"]["images"][0], before, atol=1e-2)


def test_cancel_ends_a_node_and_steps_are_shown(
    pipe: VersatileDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Exception):
        pass

    seen: list[tuple[int, int]] = []

    class ProgressBar:
        def __init__(self, total: int) -> None:
            self.total = total

        def update_absolute(self, value: int, total: int) -> None:
            seen.append((value, total))

    def interrupted() -> None:
        if len(seen) == 2:
            raise Interrupted

    modules = {"comfy": {}, "comfy.utils": {"ProgressBar": ProgressBar},
               "comfy.model_management": {"throw_exception_if_processing_interrupted": interrupted}}  # fmt: skip
    for name, members in modules.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    sample = NODE_CLASS_MAPPINGS["VersatileDiffusionSample"]()
    words = (Context("text", ["a tent"]),)
    with pytest.raises(Interrupted):
        sample.execute(
            model=LoadedModel(pipe), contexts=words, to="image", seed=0, num_outputs=1, num_inference_steps=4
        )
    assert seen == [(1, 4), (2, 4)]
    monkeypatch.undo()
    (made,) = sample.execute(
        model=LoadedModel(pipe), contexts=words, to="image", seed=0, num_outputs=1, num_inference_steps=2
    )
    assert made.values.isfinite().all()


def test_what_does_not_fit_is_told(pipe: VersatileDiffusionPipeline) -> None:
    graph = sampled("image")
    graph["4"]["inputs"]["latent"] = ["2", 0]
    nodes = {**NODES, "Opened": giving(("VD_MODEL",), LoadedModel(pipe))}
    assert check(nodes, graph) == ["4: latent is VD_CONTEXT, not VD_LATENT"]
    latents = Latents(LoadedModel(pipe), "image", torch.zeros(1, *pipe.modality("image").latent_shape()))
    with pytest.raises(ValueError, match="modality 'image': decode it as that"):
        NODES["VersatileDiffusionDecodeText"]().execute(latent=latents)
    with pytest.raises(ValueError, match="There is no LoRA 'nowhere'"):
        NODES["VersatileDiffusionLoRA"]().execute(model=LoadedModel(pipe), path="nowhere", scale=1.0)
    sample = NODES["VersatileDiffusionSample"]()
    asked = {"model": LoadedModel(pipe), "contexts": (Context("text", ["a"]),), "seed": 0, "num_outputs": 1}
    with pytest.raises(ValueError, match="The start is of modality 'image', but 'text' is made"):
        sample.execute(**asked, to="text", start=latents)
    with pytest.raises(ValueError, match="Give 2 numbers with a comma between them"):
        sample.execute(**asked, to="image", guidance_interval="0.5")


def test_sounds_and_masks_are_as_comfyui_has_them() -> None:
    sounds = socket_of("sound")
    audio = {"waveform": torch.rand(2, 1, 50) - 0.5, "sample_rate": 16000}
    read = sounds.read(audio)
    assert [(sound.size) for sound in read] == [(1, 50, 16000)] * 2
    shown: Any = sounds.show([read[0], read[1].in_length(40)])
    assert shown["waveform"].shape == (2, 1, 50) and shown["sample_rate"] == 16000
    torch.testing.assert_close(shown["waveform"][0], audio["waveform"][0])
    assert [mask.shape for mask in read_masks(torch.ones(2, 3, 4))] == [(3, 4)] * 2
    assert socket_of("smell").type == "VD_SMELL"


def test_the_folder_is_written_where_comfyui_looks_for_it(tmp_path: Path) -> None:
    (tmp_path / "custom_nodes").mkdir()
    result = CliRunner().invoke(app, ["export", "comfyui", str(tmp_path)])
    assert result.exit_code == 0, result.output
    folder = tmp_path / "custom_nodes" / "versatile_diffusion"
    spec = spec_from_file_location("a_folder_of_nodes", folder / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.NODE_CLASS_MAPPINGS is NODE_CLASS_MAPPINGS
    told = tomllib.loads((folder / "pyproject.toml").read_text())
    assert told["project"]["version"] == __version__ and told["project"]["dependencies"] == ["versatile-diffusion"]
    assert (folder / "example_workflows" / WORKFLOW.name).read_bytes() == WORKFLOW.read_bytes()
    assert write_nodes(tmp_path / "custom_nodes") == folder  # again
    with pytest.raises(ValueError, match="is not the folder of ComfyUI"):
        write_nodes(tmp_path / "custom_nodes" / "versatile_diffusion")
