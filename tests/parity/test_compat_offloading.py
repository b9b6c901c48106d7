"""`enable_model_cpu_offload` of the drop-in, with accelerate's own hooks and an accelerator that is made up."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.parity.small_pipelines import NAMES, PROMPTS, built, seeded
from versatile_diffusion import compat

ACCELERATOR = torch.device("cpu", 0)
USED = {
    "text_encoder": "text_projection",
    "image_encoder": "visual_projection",
    "image_unet": "time_embedding.linear_1",
    "vae": "decoder",
}
"""A submodule of each component that runs after its hook has moved it."""

FLOWS: dict[str, tuple[str, ...]] = {
    "text_to_image": ("text_encoder", "image_unet", "vae"),
    "image_variation": ("image_encoder", "image_unet", "vae"),
    "dual_guided": ("text_encoder", "image_encoder", "image_unet", "vae"),
}


class Watched:
    """The components of a pipeline, and which of them are on the accelerator whenever one is used.

    Nothing moves but one empty parameter, the first of each component: it is what the hooks look at. It lies on "meta"
    instead of the accelerator, whose name is just another one of the CPU.
    """

    def __init__(self, pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inside: set[str] = set()
        self.uses: list[tuple[str, set[str]]] = []
        for name, submodule in USED.items():
            component = getattr(pipe, name, None)
            if component is not None:
                component._parameters = {"marker": None, **component._parameters}
                monkeypatch.setattr(type(component), "to", self._mover(name))  # each is of another class
                component.to("cpu")
                component.get_submodule(submodule).register_forward_pre_hook(self._noter(name))

    def _mover(self, name: str) -> Callable[..., nn.Module]:
        def to(component: nn.Module, device: str | torch.device, *args: Any) -> nn.Module:
            moves_in = torch.device(device) == ACCELERATOR
            component.marker = nn.Parameter(torch.empty(0, device="meta" if moves_in else "cpu"))
            (self.inside.add if moves_in else self.inside.discard)(name)
            return component

        return to

    def _noter(self, name: str) -> Callable[..., None]:
        def note(*args: Any) -> None:
            use = (name, set(self.inside))
            if not self.uses or self.uses[-1] != use:
                self.uses.append(use)

        return note


def inputs(flow: str, picture: Image.Image) -> tuple[Any, ...]:
    given = {"text_to_image": (PROMPTS[0],), "image_variation": (picture,), "dual_guided": (PROMPTS[0], picture)}
    return given[flow]


@pytest.mark.parametrize(("name", "flow"), [*(("", flow) for flow in FLOWS), *zip(NAMES, FLOWS, strict=False)])
def test_components_are_on_the_accelerator_while_they_are_used(
    name: str, flow: str, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = built(compat, name)
    call, given = pipe if name else getattr(pipe, flow), inputs(flow, picture)
    expected = seeded(call, *given)
    watched = Watched(pipe, monkeypatch)
    pipe.enable_model_cpu_offload(device=ACCELERATOR)
    for _ in range(2):
        np.testing.assert_array_equal(seeded(call, *given), expected)
        assert watched.uses == [(component, {component}) for component in FLOWS[flow]]
        assert not watched.inside
        watched.uses.clear()
