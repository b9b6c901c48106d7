"""ComfyUI as its documentation says that it treats nodes: it checks a graph, and runs it node by node.

https://docs.comfy.org/custom-nodes/backend/server_overview and …/datatypes; nothing of ComfyUI is needed.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

Graph = dict[str, dict[str, Any]]
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN")


class LoadImage:
    """A node of ComfyUI itself: a picture, and a mask of nothing."""

    RETURN_TYPES, FUNCTION = ("IMAGE", "MASK"), "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": (["example.png"], {"image_upload": True})}}

    def load(self, image: str) -> tuple[Any, Any]:
        return torch.linspace(0, 1, 40 * 30 * 3).reshape(1, 30, 40, 3), torch.zeros(1, 64, 64)


class SaveImage:
    """Another, which ends a graph."""

    RETURN_TYPES, FUNCTION, OUTPUT_NODE = (), "save", True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"images": ("IMAGE", {}), "filename_prefix": ("STRING", {"default": ""})}}

    def save(self, images: Any, filename_prefix: str) -> dict[str, Any]:
        return {"ui": {"images": [images]}}


class PreviewAny:
    """Another, which shows whatever there is."""

    RETURN_TYPES, FUNCTION, OUTPUT_NODE = (), "show", True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"source": ("*", {})}}

    def show(self, source: object) -> dict[str, Any]:
        return {"ui": {"text": [source]}}


CORE = {"LoadImage": LoadImage, "SaveImage": SaveImage, "PreviewAny": PreviewAny}


def inputs_of(node: Any) -> dict[str, Any]:
    """All inputs of a node, in the order in which they are shown."""
    declared = node.INPUT_TYPES()
    return {**declared.get("required", {}), **declared.get("optional", {})}


def is_link(value: object) -> bool:
    return isinstance(value, list)


def check(nodes: Mapping[str, Any], graph: Graph) -> list[str]:
    """What ComfyUI refuses of a graph before it runs anything."""
    problems: list[str] = []
    for key, entry in graph.items():
        node, given = nodes[entry["class_type"]], entry["inputs"]
        declared = node.INPUT_TYPES()
        problems += [f"{key}: {name} is missing" for name in declared["required"] if name not in given]
        for name, value in given.items():
            kind, shown = inputs_of(node)[name]
            if is_link(value):
                source, slot = value
                made = nodes[graph[source]["class_type"]].RETURN_TYPES[slot]
                if kind != "*" and made != kind:
                    problems.append(f"{key}: {name} is {made}, not {kind}")
            elif isinstance(kind, list):
                problems += [] if value in kind else [f"{key}: {name} is {value!r}, none of {kind}"]
            elif kind in ("INT", "FLOAT"):
                fits = shown.get("min", value) <= value <= shown.get("max", value)
                problems += [] if fits else [f"{key}: {name} is {value}, out of range"]
    return problems


def execute(nodes: Mapping[str, Any], graph: Graph) -> dict[str, dict[str, Any]]:
    """Runs a graph, and returns what its last nodes show, by their keys.

    What a node makes is a list of values for each of its outputs: one, or one an item where OUTPUT_IS_LIST says so. The
    next node runs once for each value.
    """
    assert check(nodes, graph) == []
    made: dict[str, list[list[Any]]] = {}
    shown: dict[str, dict[str, Any]] = {}

    def outputs(key: str) -> list[list[Any]]:
        if key not in made:
            made[key] = run(key)
        return made[key]

    def run(key: str) -> list[list[Any]]:
        entry = graph[key]
        node = nodes[entry["class_type"]]
        given = {n: outputs(v[0])[v[1]] if is_link(v) else [v] for n, v in entry["inputs"].items()}
        results: list[Sequence[Any]] = []
        for index in range(max((len(values) for values in given.values()), default=1)):
            result = getattr(node(), node.FUNCTION)(**{n: v[min(index, len(v) - 1)] for n, v in given.items()})
            if isinstance(result, dict):
                for name, values in result["ui"].items():
                    shown.setdefault(key, {}).setdefault(name, []).extend(values)
                result = result.get("result", ())
            assert isinstance(result, tuple) and len(result) == len(node.RETURN_TYPES)
            results.append(result)
        lists = getattr(node, "OUTPUT_IS_LIST", (False,) * len(node.RETURN_TYPES))
        return [
            [value for result in results for value in (result[slot] if lists[slot] else [result[slot]])]
            for slot in range(len(node.RETURN_TYPES))
        ]

    with torch.inference_mode():  # as ComfyUI does
        for key, entry in graph.items():
            if getattr(nodes[entry["class_type"]], "OUTPUT_NODE", False):
                outputs(key)
    return shown


def read_workflow(nodes: Mapping[str, Any], file: Path) -> Graph:
    """The graph of a workflow as the page of ComfyUI saves it: the values of widgets stand in the order of inputs."""
    saved = json.loads(file.read_text())
    links = {link[0]: [str(link[1]), link[2]] for link in saved["links"]}
    graph: Graph = {}
    for node in saved["nodes"]:
        values, inputs = iter(node["widgets_values"]), dict[str, Any]()
        for name, (kind, shown) in inputs_of(nodes[node["type"]]).items():
            if isinstance(kind, list) or kind in WIDGETS:
                inputs[name] = next(values)
                if shown.get("control_after_generate") or shown.get("image_upload"):
                    assert next(values) in ("fixed", "image")
        assert list(values) == [], f"{node['type']} has other widgets now: save the workflow anew."
        inputs |= {socket["name"]: links[socket["link"]] for socket in node["inputs"] if socket["link"]}
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return graph
