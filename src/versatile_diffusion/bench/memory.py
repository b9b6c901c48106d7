"""What each flow of the large model needs at 512², guided: computed from tensors without contents, so anywhere.

The activations are those of PyTorch's own operations. CUDA itself and the work space of its libraries come on top, some
hundred MB.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from versatile_diffusion.bench.report import Figure, Result, Settings
from versatile_diffusion.bench.sizes import FLOWS, stored_bytes
from versatile_diffusion.checkpoints import Components
from versatile_diffusion.diffuser.model import ContextTokens
from versatile_diffusion.flows import Flow
from versatile_diffusion.model_presets import Preset, build

CARD = 12e9
_ROWS = 2  # guidance asks with and without the condition, at once
_WORDS = 30


@dataclass(frozen=True)
class Need:
    """Bytes that some flows need in float16. In float32 all are twice as many.

    Attributes:
        stored: all tensors on disk.
        diffuser, modalities: weights.
        layer: weights of the largest layer of the diffuser.
        saved: what `quantize` makes of the weights less.
        denoising, coding: the most activations, of one step of the diffuser, and of what modalities do for one output.
    """

    stored: int
    diffuser: int
    modalities: int
    layer: int
    saved: int
    denoising: int
    coding: int

    @property
    def weights(self) -> int:
        """The bytes of all weights."""
        return self.diffuser + self.modalities

    @property
    def resident(self) -> int:
        """The bytes on the accelerator, if all weights stay there."""
        return self.weights + max(self.denoising, self.coding)

    @property
    def model_offload(self) -> int:
        """The bytes on the accelerator, if the diffuser and the modalities are there in turns."""
        return max(self.diffuser + self.denoising, self.modalities + self.coding)

    @property
    def group_offload(self) -> int:
        """The bytes on the accelerator, if layers of the diffuser are there in turns, and the modalities as a whole."""
        return max(self.layer + self.denoising, self.modalities + self.coding)


def measure(settings: Settings) -> Result:
    """Counts the bytes for each flow and for all, and compares them with a card of 12 GB."""
    figures: list[Figure] = []
    needs = {name: needed(settings.sizes, Flow.parse(name)) for name in FLOWS}
    needs["all flows"] = together(settings.sizes, list(needs.values()))
    for name, need in needs.items():
        counted = {"disk, fp16": need.stored, "weights, fp32": 2 * need.weights, "weights, fp16": need.weights}
        counted |= {"weights, int8": need.weights - need.saved, "activations, fp16": max(need.denoising, need.coding)}
        held = {"fp32": 2 * need.resident, "fp16": need.resident, "int8": need.resident - need.saved}
        held |= {"fp16, model offload": need.model_offload, "fp16, group offload": need.group_offload}
        figures += [Figure(f"{name}: {what}", "bytes", [size]) for what, size in counted.items()]
        figures += [Figure(f"{name}: GPU, {how}", "bytes", [size], at_most=CARD) for how, size in held.items()]
    return Result("Memory of flows, one output at a time", figures, {"card": f"{CARD / 1e9:.0f} GB"})


@torch.no_grad()
def needed(preset: Preset, flow: Flow) -> Need:
    """Computes what a flow needs."""
    with FakeTensorMode(), _default(torch.float16):
        components = build(preset, [flow])
        denoising = _activations(components.diffuser, _step(components, flow))
        coding = max(_activations(part, work) for part, work in _coding(components, flow))
        return _need(components, denoising, coding)


def together(preset: Preset, needs: Sequence[Need]) -> Need:
    """Computes what all flows need that are loaded together; of their activations, those of the largest count."""
    with FakeTensorMode(), _default(torch.float16):
        denoising, coding = max(need.denoising for need in needs), max(need.coding for need in needs)
        return _need(build(preset), denoising, coding)


def _need(components: Components, denoising: int, coding: int) -> Need:
    diffuser, modalities = components.diffuser, components.modalities.values()
    encoders = [encoder for each in modalities if (encoder := each.context_encoder) is not None]
    return Need(
        stored=stored_bytes(components),
        diffuser=_bytes(diffuser.parameters()),
        modalities=sum(_bytes(modality.parameters()) for modality in modalities),
        layer=max(_bytes(module.parameters(recurse=False)) for module in diffuser.modules()),
        saved=sum(map(saved_by_int8, [diffuser, *encoders])),
        denoising=denoising,
        coding=coding,
    )


@contextmanager
def _default(dtype: torch.dtype) -> Generator[None, None, None]:
    """Makes a type of numbers the default one for a while."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _step(components: Components, flow: Flow) -> Callable[[], object]:
    """Returns a function that computes a step of the diffuser."""
    made, given = components.modalities[flow.output], components.modalities[flow.context]
    latents = torch.empty(_ROWS, *made.latent_shape())
    tokens = torch.empty(_ROWS, given.context_lengths[0], given.context_dim)
    timesteps = torch.zeros(_ROWS, dtype=torch.long)
    return lambda: components.diffuser(latents, timesteps, flow.output, [ContextTokens(flow.context, tokens)])


def _coding(components: Components, flow: Flow) -> Iterator[tuple[nn.Module, Callable[[], object]]]:
    """Yields what modalities do, and with which module: embed the context, and decode the output."""
    given: Any = components.modalities[flow.context].context_encoder
    made: Any = components.modalities[flow.output].autoencoder
    latents = torch.empty(1, *components.modalities[flow.output].latent_shape())
    if flow.context == "image":
        yield given, lambda: given(torch.empty(1, 3, given.image_size, given.image_size))
    else:
        yield given, lambda: given(torch.zeros(1, given.max_length, dtype=torch.long))
    if flow.output == "image":
        yield made, lambda: made.decode(latents, return_dict=False)
    else:
        yield made, lambda: made.logits(latents, torch.zeros(1, _WORDS, dtype=torch.long))


def _activations(module: nn.Module, work: Callable[[], object]) -> int:
    """Counts the most bytes that are alive at once during some work, besides the weights."""
    with _LivingBytes(module) as living:
        work()
    return living.most


class _LivingBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are alive, and the most of them at once, but for those of a module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType] - torch leaves a parameter untyped
        self.now = self.most = 0
        tensors = (*module.parameters(), *module.buffers())
        self._known = weakref.WeakSet(tensor.untyped_storage() for tensor in tensors)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, made)):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._known:
            self._known.add(storage)
            self._change(storage.nbytes())
            weakref.finalize(storage, self._change, -storage.nbytes())

    def _change(self, size: int) -> None:
        self.now += size
        self.most = max(self.most, self.now)


def saved_by_int8(module: nn.Module) -> int:
    """Counts by how many bytes int8 makes a module smaller: a row of a matrix keeps a scale and a zero point."""
    matrices = [layer.weight for layer in module.modules() if isinstance(layer, nn.Linear)]
    return sum(w.numel() * (w.itemsize - 1) - len(w) * (w.itemsize + 1) for w in matrices)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
