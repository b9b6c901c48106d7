"""The network: contexts that are prepared once, and gradients that are computed in less memory."""

import copy
from dataclasses import replace

import pytest
import torch
from accelerate import cpu_offload_with_hook
from torch import Generator, Tensor
from torch.autograd.graph import saved_tensors_hooks

from tests.unit.training.diffuser_runs import four_flow_task
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.diffuser import ContextTokens, Diffuser
from versatile_diffusion.kernels import optimize
from versatile_diffusion.training.tasks.diffuser import DiffuserTask

TIMESTEPS = torch.tensor([501, 7])


@pytest.fixture
def diffuser(session_pipe: VersatileDiffusionPipeline) -> Diffuser:
    return copy.deepcopy(session_pipe.diffuser)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed))


LATENTS = {"image": drawn(2, 4, 8, 8), "text": drawn(2, 48)}
CONTEXTS = [ContextTokens("text", drawn(2, 5, 24, seed=1), 0.3), ContextTokens("image", drawn(2, 4, 24, seed=2), 0.7)]


@pytest.mark.parametrize("output", ["image", "text"])
@torch.no_grad()
def test_prepared_contexts_give_what_their_tokens_give(diffuser: Diffuser, output: str) -> None:
    expected = diffuser(LATENTS[output], TIMESTEPS, output, CONTEXTS)
    prepared = diffuser.prepare(CONTEXTS)
    for _ in range(2):  # which changes nothing in them
        assert torch.equal(diffuser(LATENTS[output], TIMESTEPS, output, prepared), expected)
        assert torch.equal(diffuser(LATENTS[output], TIMESTEPS, output, [prepared[0], CONTEXTS[1]]), expected)
    steps = len(diffuser.plan.context)
    assert [(context.modality, context.weight, len(context.kv_cache)) for context in prepared] == [
        ("text", 0.3, steps),
        ("image", 0.7, steps),
    ]


@torch.no_grad()
def test_keys_and_values_are_those_of_the_weights_when_they_were_prepared(diffuser: Diffuser) -> None:
    expected, prepared = diffuser(LATENTS["text"], TIMESTEPS, "text", CONTEXTS), diffuser.prepare(CONTEXTS)
    for name, parameter in diffuser.named_parameters():
        if name.endswith(("attend_cross.key.weight", "attend_cross.value.weight")):
            parameter.zero_()
    assert torch.equal(diffuser(LATENTS["text"], TIMESTEPS, "text", prepared), expected)
    assert not torch.allclose(diffuser(LATENTS["text"], TIMESTEPS, "text", CONTEXTS), expected)


@torch.no_grad()
def test_contexts_are_multiplied_by_the_scale_before_they_are_attended_to(
    diffuser: Diffuser, session_pipe: VersatileDiffusionPipeline
) -> None:
    layers = {name: modality.data_layers for name, modality in session_pipe.modalities.items()}
    dims = {name: modality.context_dim for name, modality in session_pipe.modalities.items()}
    scaled = Diffuser(replace(diffuser.plan.config, context_scale=3.0), layers, dims).eval()
    scaled.load_state_dict(diffuser.state_dict())
    larger = [replace(context, tokens=3.0 * context.tokens) for context in CONTEXTS]
    expected = diffuser(LATENTS["image"], TIMESTEPS, "image", larger)
    assert torch.equal(scaled(LATENTS["image"], TIMESTEPS, "image", CONTEXTS), expected)
    assert torch.equal(scaled(LATENTS["image"], TIMESTEPS, "image", scaled.prepare(CONTEXTS)), expected)


def test_a_diffuser_that_waits_elsewhere_comes_to_prepare_contexts(diffuser: Diffuser) -> None:
    with torch.no_grad():
        expected = diffuser.prepare(CONTEXTS)
    _, hook = cpu_offload_with_hook(diffuser, "cpu")
    called: list[object] = []
    bring = hook.hook.pre_forward
    hook.hook.pre_forward = lambda module, *args, **options: (called.append(module), bring(module, *args, **options))[1]
    with torch.no_grad():
        found = diffuser.prepare(CONTEXTS)
    assert called == [diffuser]
    for mine, theirs in zip(found[0].kv_cache, expected[0].kv_cache, strict=True):
        assert torch.equal(mine[0], theirs[0]) and torch.equal(mine[1], theirs[1])


def losses_and_gradients(task: DiffuserTask) -> tuple[dict[str, float], dict[str, Tensor], int]:
    """Of a step of all four flows, with how many numbers it kept for its gradients."""
    kept = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    task.model.zero_grad()
    losses: dict[str, float] = {}
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        values = {
            name: loss
            for compute in task.passes(task.draw(Generator().manual_seed(0), 4))
            for name, loss in compute().items()
        }
    sum(values.values(), torch.zeros(())).backward()
    losses = {name: loss.item() for name, loss in values.items()}
    gradients = {name: p.grad.clone() for name, p in task.model.named_parameters() if p.grad is not None}
    return losses, gradients, kept


@pytest.mark.parametrize("optimized", [False, True])
def test_gradient_checkpointing_gives_the_same_losses_and_gradients_from_less(optimized: bool) -> None:
    task = four_flow_task()
    if optimized:
        optimize(task.model, training=True)
    losses, gradients, kept = losses_and_gradients(task)
    task.model.enable_gradient_checkpointing()
    again, same, less = losses_and_gradients(task)
    assert again == losses and same.keys() == gradients.keys() and gradients
    assert all(torch.equal(same[name], gradient) for name, gradient in gradients.items())
    assert less < kept / 3
    task.model.disable_gradient_checkpointing()
    assert losses_and_gradients(task)[2] == kept


def test_without_gradients_nothing_is_checkpointed(diffuser: Diffuser) -> None:
    def fail(*_: object) -> Tensor:
        raise AssertionError

    diffuser.enable_gradient_checkpointing(fail)
    with torch.no_grad():
        diffuser(LATENTS["text"], TIMESTEPS, "text", CONTEXTS)
    with pytest.raises(AssertionError):
        diffuser(LATENTS["text"], TIMESTEPS, "text", CONTEXTS)
