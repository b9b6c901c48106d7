"""A diffuser that OpenVINO runs: on a CPU it takes half as long for small models.

Each flow is converted when it is first asked for, with its weights, which OpenVINO lays out for the machine and holds
beside the diffuser's own.
"""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from versatile_diffusion.diffuser import ContextTokens, Diffuser, PreparedContext
from versatile_diffusion.extras import require

OPENVINO = "openvino"
PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}
"""What OpenVINO is told to compute in, by the type of the weights."""


class _Call(NamedTuple):
    """What a conversion is made for.

    Attributes:
        output: the modality of the latents.
        contexts: the modalities of the contexts.
        repeats: how often each latent is denoised.
    """

    output: str
    contexts: tuple[str, ...]
    repeats: int


class OpenVinoForward:
    """Stands in the place of a diffuser's `forward`.

    Args:
        diffuser: whose weights it takes, as they are when a flow is first asked for.
        options: OpenVINO's own, such as INFERENCE_NUM_THREADS.

    Raises:
        ImportError: if OpenVINO is not installed.
        ValueError: if the diffuser is not on the CPU, or in another precision than float32 and bfloat16.
    """

    def __init__(self, diffuser: Diffuser, options: Mapping[str, object]) -> None:
        require(OPENVINO, f'compile(backend="{OPENVINO}")', OPENVINO)
        if diffuser.device.type != "cpu" or diffuser.dtype not in PRECISIONS:
            raise ValueError(
                f"OpenVINO runs diffusers in float32 and bfloat16 on the CPU, not in {diffuser.dtype} on "
                f"{diffuser.device}: bring it there first, or compile it without a backend."
            )
        self._diffuser, self._given = diffuser, options
        self._converted: dict[_Call, Any] = {}  # of OpenVINO, whose types not everyone has
        self._lock = threading.Lock()  # what is compiled computes one request at a time

    def of(self, diffuser: Diffuser) -> OpenVinoForward:
        """Returns the same for another diffuser."""
        return OpenVinoForward(diffuser, self._given)

    def __call__(
        self,
        latents: Float[Tensor, "b *latent"],
        timesteps: Int[Tensor, "b"] | Float[Tensor, "b"],
        output: str,
        contexts: Sequence[ContextTokens | PreparedContext],
    ) -> Float[Tensor, "kb *latent"]:
        """Predicts the noise; see `Diffuser.forward`.

        Raises:
            RuntimeError: if the diffuser was brought elsewhere since.
        """
        if self._diffuser.device.type != "cpu":
            raise RuntimeError("OpenVINO runs this diffuser on the CPU: call `unpack` before you bring it elsewhere.")
        prepared = [c if isinstance(c, PreparedContext) else self._diffuser.prepare([c])[0] for c in contexts]
        shares = torch.tensor([c.weight for c in prepared])
        caches = [part for context in prepared for pair in context.kv_cache for part in pair]
        call = _Call(output, tuple(c.modality for c in prepared), len(prepared[0]) // len(latents))
        given = (latents.float(), timesteps.float(), shares / shares.sum(), *(part.float() for part in caches))
        with self._lock:
            if call not in self._converted:
                self._converted[call] = self._convert(call, given)
            (found,) = self._converted[call]([each.detach().contiguous().numpy() for each in given]).values()
        noise: Tensor = torch.from_numpy(found)  # pyright: ignore[reportUnknownMemberType] - untyped in part
        return noise.to(latents.dtype)

    def _convert(self, call: _Call, example: tuple[Tensor, ...]) -> Any:
        """What OpenVINO makes of a flow; sizes and batches may differ from those of the example."""
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # of the tracer, about what `_Call` says
            ordinary = tuple(each.clone() for each in example)  # inference tensors cannot be traced
            exact = self._diffuser
            if exact.dtype != torch.float32:
                exact = copy.deepcopy(exact, {id(self): self})  # this one, which stands in it, stays
                nn.Module.float(exact)  # in place
            with _norms_of_vectors(exact):
                converted = to_openvino(_Flow(exact, call), ordinary)
        return compiled_for_cpu(converted, self._diffuser.dtype, self._given)


def to_openvino(function: nn.Module, example: tuple[Tensor, ...]) -> Any:
    """Converts a function of tensors, as OpenVINO's own `convert_model` does, which reports to its maker that it did.

    Args:
        function: to be converted; it keeps its weights.
        example: what it is called with. Inputs may have other sizes, but not other numbers of dimensions.
    """
    frontends: Any = import_module(f"{OPENVINO}.frontend")
    decoders: Any = import_module(f"{OPENVINO}.frontend.pytorch.ts_decoder")
    graph = cast(Any, torch.jit).trace(function, example, check_trace=False, strict=False)  # untyped in part
    pytorch = frontends.FrontEndManager().load_by_framework("pytorch")
    decoder = decoders.TorchScriptPythonDecoder(graph)  # by a name, since nothing else keeps it
    model = pytorch.convert(pytorch.load(decoder))
    types: Any = import_module(OPENVINO)
    for given, each in zip(model.inputs, example, strict=True):
        given.get_node().set_element_type(types.Type.f32 if each.is_floating_point() else types.Type.i64)
        given.get_node().set_partial_shape(types.PartialShape([-1] * each.ndim))
    model.validate_nodes_and_infer_types()
    return model


def compiled_for_cpu(converted: Any, dtype: torch.dtype, options: Mapping[str, object]) -> Any:
    """Compiles what was converted for one request at a time, on as many threads as PyTorch takes.

    Args:
        converted: see `to_openvino`.
        dtype: what to compute in. What goes in and comes out is in float32 all the same.
        options: OpenVINO's own, which come before these.
    """
    usual = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    return import_module(OPENVINO).Core().compile_model(converted, "CPU", usual | dict(options))


class _Flow(nn.Module):
    """One way to call a diffuser, as a function of tensors alone."""

    def __init__(self, diffuser: Diffuser, call: _Call) -> None:
        super().__init__()
        self.diffuser, self.call = diffuser, call

    def forward(
        self, latents: Float[Tensor, "b *latent"], timesteps: Float[Tensor, "b"], shares: Tensor, *caches: Tensor
    ) -> Tensor:
        steps = len(self.diffuser.plan.context)
        pairs = [(keys, values) for keys, values in zip(caches[::2], caches[1::2], strict=True)]
        stacks = [
            list(zip(self.diffuser.context_blocks(modality), pairs[i * steps : (i + 1) * steps], strict=True))
            for i, modality in enumerate(self.call.contexts)
        ]
        attending = (partial(self._attend, calls=calls, shares=shares) for calls in zip(*stacks, strict=True))
        return self.diffuser.walk(latents, timesteps, self.call.output, attending)

    def _attend(self, x: Tensor, calls: Sequence[Any], shares: Tensor) -> Tensor:
        attended = [block(x, cache) for block, cache in calls]
        return attended[0] if len(attended) == 1 else torch.stack(attended).mul(shares.view(-1, *[1] * x.ndim)).sum(0)


@contextmanager
def _norms_of_vectors(network: nn.Module) -> Generator[None]:
    """Gives group normalisations of vectors a dimension more while a network is traced: OpenVINO has none without."""
    norms = [part for part in network.modules() if isinstance(part, nn.GroupNorm)]
    for norm in norms:
        vars(norm)["forward"] = partial(_normalized, norm.forward)
    try:
        yield
    finally:
        for norm in norms:
            del vars(norm)["forward"]


def _normalized(normalize: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return normalize(x[..., None])[..., 0] if x.ndim == 2 else normalize(x)
