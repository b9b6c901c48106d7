"""Nobody above `modalities/` spells the name of a modality: a third one would have to be added there.

Names come from a request, from the model's own modalities, from `modalities.registry`, or from a spec (`IMAGE.name`).
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2] / "src" / "versatile_diffusion"
NAMES = ("image", "text", "sound")

ABOUT_THESE_TWO = {
    "applications/brain_decoding.py": "images of predicted embeddings of images and texts, as in the papers",
    "applications/editing.py": "an image changed by words",
    "applications/versatile.py": "the four flows of the paper by their names",
    "bench/": "what diffusers' network, which knows these two, is compared with",
    "checkpoints/diffuser_layouts.py": "how others name what is in a model of these two",
    "checkpoints/diffusers_folder.py": "a layout of others, for these two",
    "checkpoints/encoder_sources.py": "what folders of CLIP, of T5 and of autoencoders hold for these two",
    "checkpoints/encoder_keys.py": "how others name what is in the encoders of these two",
    "checkpoints/lora_keys.py": "how others name the layers of images from texts",
    "checkpoints/hub.py": "which files a layout of others has for these two",
    "checkpoints/official.py": "a layout of others, for these two",
    "checkpoints/stable_diffusion.py": "a layout of others, for text to image",
    "checkpoints/stable_diffusion_file.py": "likewise",
    "checkpoints/vocabularies.py": "the tokenizers of the official model",
    "comfyui/nodes.py": "what ComfyUI calls that which a node shows",
    "compat/": "the pipelines of diffusers, which know these two",
    "model_presets/": "the sizes of the paper's models",
    "training/report/hub_metadata.py": "what the hub calls the words of an example",
    "training/stages/encoder_training.py": "the paper's stages: autoencoders and context encoders of these two",
    "training/stages/model_training.py": "the paper's stages: flows between these two",
    "data/streams.py": "what `datasets` calls the lines of a file",
    "data/tables.py": "the names that columns of captions have",
    "studio/history.py": "a column of the table of results is called text",
    "studio/results_store.py": "the record of a text holds it under that name",
    "worlds/": "a world has the modalities that it has",
}
"""Where the names may stand, and why."""

STILL: dict[str, int] = {}
"""How often they still stand elsewhere. This list may only shrink."""


def spelled(source: str) -> list[int]:
    """The lines of a module that spell the name of a modality, as a value or in a type."""
    nodes = ast.walk(ast.parse(source))
    return sorted(node.lineno for node in nodes if isinstance(node, ast.Constant) and node.value in NAMES)


FOUND = {module.relative_to(ROOT).as_posix(): spelled(module.read_text()) for module in ROOT.rglob("*.py")}
ELSEWHERE = {
    name: lines for name, lines in FOUND.items() if lines and not name.startswith(("modalities/", *ABOUT_THESE_TWO))
}


def test_no_new_place_spells_a_name() -> None:
    new = {name: lines for name, lines in ELSEWHERE.items() if not name.startswith(tuple(STILL))}
    assert new == {}, "Take the name from the request, the model or modalities.registry."


def test_rooms_that_are_still_to_be_mended_get_no_worse() -> None:
    counts = {room: sum(len(lines) for name, lines in ELSEWHERE.items() if name.startswith(room)) for room in STILL}
    assert {room: counts[room] for room in STILL if counts[room] > STILL[room]} == {}
    assert [room for room in STILL if not counts[room]] == [], "These are mended: take them off the list."


def test_names_are_found_as_values_and_in_types() -> None:
    source = "a = 'image'\nb: Literal['text'] = f(image='images')\nclass C(StrEnum):\n    TEXT = 'text'\n"
    assert spelled(source) == [1, 2, 4]
    assert FOUND["modalities/image_spec.py"] and FOUND["modalities/text_spec.py"]
