"""An option of sampling that is declared once exists everywhere: whatever derives from `Sampling` is asked for each."""

import json
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from versatile_diffusion.cli.app import app
from versatile_diffusion.fields import flag_name
from versatile_diffusion.sampling.options import Sampling

OPTIONS = [*Sampling.model_fields]


@pytest.mark.parametrize("command", ["text-to-image", "generate"])
@pytest.mark.parametrize("option", OPTIONS)
def test_the_command_line_asks_for_it(command: str, option: str) -> None:
    if (command, option) == ("text-to-image", "strength"):
        return  # which needs a start, and this command takes none
    flag = flag_name(Sampling, option)
    asked: Any = get_command(app)
    given = [opt for parameter in asked.get_command(None, command).params for opt in parameter.opts]
    assert flag in given


def test_the_help_says_what_it_does() -> None:
    said = " ".join(CliRunner().invoke(app, ["generate", "--help"], env={"COLUMNS": "300"}).output.split())
    assert "--guidance-rescale" in said and "brought back to the spread" in said


@pytest.mark.parametrize("option", OPTIONS)
def test_the_openapi_document_holds_it(option: str) -> None:
    from versatile_diffusion.serving.schemas import GenerateIn

    assert option in json.dumps(GenerateIn.model_json_schema()["properties"])


@pytest.mark.parametrize("option", OPTIONS)
def test_every_tool_of_agents_takes_it(option: str) -> None:
    from versatile_diffusion.mcp.tools import TOOLS

    assert all(option in tool.schema["properties"] for tool in TOOLS)


@pytest.mark.parametrize("option", OPTIONS)
def test_the_studio_asks_for_it(option: str) -> None:
    from versatile_diffusion.engine.workers import ModelInfo
    from versatile_diffusion.modalities.size_range import SizeRange
    from versatile_diffusion.studio.options import advanced_controls, initial_values, stored_key
    from versatile_diffusion.studio.tasks import TASKS

    both = ("image", "text")
    advanced = advanced_controls("image", ModelInfo(both, both, {}, {"image": SizeRange.of(64)}))
    asked = {control.name for control in [*advanced, *(control for task in TASKS for control in task.controls)]}
    asked |= initial_values([]).keys()  # of every task
    assert stored_key(option) in asked
