"""What a step of the official model costs, counted on tensors without contents: numbers that repeat exactly."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from versatile_diffusion.checkpoints import Components
from versatile_diffusion.diffuser import ContextTokens
from versatile_diffusion.flows import Flow
from versatile_diffusion.model_presets import build, vd_four_flow
from versatile_diffusion.sampling.guidance import Guidance, guided_denoiser
from versatile_diffusion.sampling.sampler import Denoiser

COSTS = {
    "text-to-image": {1.0: (803273441280, 800321372160), 7.5: (1565678960640, 1559774822400)},
    "image-variation": {1.0: (818490900480, 808637890560), 7.5: (1596113879040, 1576407859200)},
    "image-to-text": {1.0: (14769372160, 4916362240), 7.5: (29518735360, 9812715520)},
    "text-variation": {1.0: (7832488960, 4880419840), 7.5: (15644968960, 9740830720)},
}
"""Floating-point operations of the first step, keys and values included, and of each other one; by flow and scale of
guidance."""

KERNELS = {"image": {1.0: 978, 7.5: 1228}, "text": {1.0: 975, 7.5: 1225}}
"""Operations that compute something, in a step other than the first, by output and scale: on a GPU, each
launches a kernel or more."""


class KernelCounter(TorchDispatchMode):
    """Counts operations that are not views."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module", params=list(COSTS))
def flow(request: pytest.FixtureRequest) -> tuple[str, Components]:
    with torch.device("meta"):
        return request.param, build(vd_four_flow(), [Flow.parse(request.param)])


def denoiser(name: str, components: Components, scale: float) -> tuple[Denoiser, torch.Tensor]:
    flow = Flow.parse(name)
    modality = components.modalities[flow.context]
    shape = (1, modality.context_lengths[0], modality.context_dim)
    given, without = ([ContextTokens(flow.context, torch.empty(shape, device="meta"))] for _ in range(2))
    latents = torch.empty(1, *components.modalities[flow.output].latent_shape(), device="meta")
    return guided_denoiser(components.diffuser, flow.output, given, without, Guidance(scale)), latents


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_operations_of_steps(flow: tuple[str, Components], scale: float) -> None:
    with FlopCounterMode(display=False) as preparing:
        denoise, latents = denoiser(*flow, scale)
    with FlopCounterMode(display=False) as counter:
        denoise(latents, torch.tensor(501))
    step = counter.get_total_flops()
    with KernelCounter() as kernels:
        denoise(latents, torch.tensor(501))
    assert (preparing.get_total_flops() + step, step) == COSTS[flow[0]][scale]
    assert 0 < kernels.count <= KERNELS[Flow.parse(flow[0]).output][scale]
