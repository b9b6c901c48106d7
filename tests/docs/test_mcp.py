"""The Python of docs/mcp.md runs as it stands, with the bundled model in few steps; its tables name what there is."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mcp
import pytest
from PIL import Image

from tests.unit.mcp.talking import tools_of
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.workers import LocalWorker
from versatile_diffusion.mcp.tools import TOOLS

PAGE = (Path(__file__).parents[2] / "docs" / "mcp.md").read_text()


@pytest.mark.slow
def test_the_block_runs(bundled: VersatileDiffusionPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"<!-- test -->\n```python\n(.*?)```", PAGE, flags=re.DOTALL)
    engine = Engine(LocalWorker({"postcards": bundled}))
    monkeypatch.setattr(mcp, "StdioServerParameters", lambda command, args: tools_of(engine))  # not in another process
    monkeypatch.chdir(tmp_path)
    run = compile(code.replace('"seed": 7', '"seed": 7, "num_inference_steps": 8'), "mcp.md", "exec")
    with ThreadPoolExecutor(1) as own:  # where no loop runs, as that of a browser of other tests
        own.submit(exec, run, {}).result()
    engine.close()
    assert Image.open("lighthouse.png").info["model"] == "postcards"


def test_the_table_names_the_tools() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", PAGE, flags=re.MULTILINE))
    assert list(rows) == [tool.name for tool in TOOLS]
    for tool in TOOLS:
        assert set(re.findall(r"`(\w+)`", rows[tool.name])) <= tool.schema["properties"].keys()
