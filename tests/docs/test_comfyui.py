"""The graph and the table of docs/comfyui.md are those of the nodes."""

import json
import re
from pathlib import Path
from typing import Any

from tests.unit.comfyui.comfy import CORE, check
from versatile_diffusion.comfyui.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from versatile_diffusion.modalities.registry import modality_names

PAGE = (Path(__file__).parents[2] / "docs" / "comfyui.md").read_text()


def test_the_graph_is_taken() -> None:
    (posted,) = re.findall(r"-d '(.*?)'\n```", PAGE, flags=re.DOTALL)
    graph: dict[str, Any] = json.loads(posted)["prompt"]
    assert check({**CORE, **NODE_CLASS_MAPPINGS}, graph) == []


def test_the_table_names_all_nodes() -> None:
    rows = re.findall(r"^\| (VD [^|]*?) \|", PAGE, flags=re.MULTILINE)
    listed = ", ".join(modality_names()).replace("image, text", "text, image")
    named = {
        row.replace(listed, name) for row in rows for name in (modality_names() if row.endswith(listed) else ("",))
    }
    assert named == set(NODE_DISPLAY_NAME_MAPPINGS.values())
