import pytest
from hypothesis import given
from hypothesis import strategies as st

from versatile_diffusion.flows import Flow

_names = st.from_regex(r"[a-z]{1,8}", fullmatch=True)


@given(_names, _names)
def test_a_flow_is_read_as_it_is_written(context: str, output: str) -> None:
    flow = Flow(context, output)
    assert Flow.parse(str(flow)) == flow
    assert Flow.parse(f"{context}-to-{output}") == flow


def test_variations_have_a_name_of_their_own() -> None:
    assert Flow.parse("image-variation") == Flow("image", "image")
    assert str(Flow("text", "text")) == "text-variation"
    assert str(Flow("text", "image")) == "text-to-image"


@pytest.mark.parametrize("name", ["", "text", "text2image", "text-to-", "-to-image", "-variation", "text to image"])
def test_what_is_no_flow(name: str) -> None:
    with pytest.raises(ValueError, match=r"is not a flow\. Write CONTEXT-to-OUTPUT"):
        Flow.parse(name)
