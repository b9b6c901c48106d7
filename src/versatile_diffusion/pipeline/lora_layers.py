"""Which layers of a diffuser LoRAs change, and how they get there: through peft."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

from versatile_diffusion.kernels.quantization import is_quantized

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer

FACTORS = ("lora_A", "lora_B")
"""What a LoRA multiplies to change a weight."""


def adapted_layers(diffuser: nn.Module) -> Iterator[tuple[str, LoraLayer]]:
    """Yields the layers that LoRAs change, by their names in a diffuser without any."""
    if not hasattr(diffuser, "peft_config"):
        return
    from peft.tuners.lora import LoraLayer

    yield from ((path, module) for path, module in _modules(diffuser).items() if isinstance(module, LoraLayer))


def adaptable_layers(diffuser: nn.Module) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
    """Yields the layers that a LoRA may change, by their names in a diffuser without any."""
    adapted = dict(adapted_layers(diffuser))
    for path, module in _modules(diffuser).items():
        layer = adapted[path].get_base_layer() if path in adapted else module
        if isinstance(layer, nn.Linear | nn.Conv2d) and not any(path.startswith(f"{other}.") for other in adapted):
            yield path, layer


def inject(diffuser: nn.Module, name: str, ranks: Mapping[str, int]) -> None:
    """Puts an untrained LoRA of that name into layers, of the rank that is given for each.

    Raises:
        ValueError: if the name is taken or no name, or the weights take no LoRAs.
        RuntimeError: if the weights are offloaded layer by layer.
        ImportError: if peft is missing.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError("LoRAs need peft: pip install 'versatile-diffusion[lora]'") from error
    if not re.fullmatch(r"\w+", name):
        raise ValueError(f"The name of a LoRA may hold letters, digits and underscores, got {name!r}.")
    if any(name in layer.lora_A for _, layer in adapted_layers(diffuser)):
        raise ValueError(f"There is a LoRA called {name} already: give this one another name.")
    if any(parameter.is_meta for parameter in diffuser.parameters()):
        raise RuntimeError("The weights are away: load LoRAs before `enable_sequential_cpu_offload`.")
    if is_quantized(diffuser):
        raise ValueError(
            "The weights are int8, which takes no LoRAs: load them before `quantize`, and `fuse_and_unload_lora`. For "
            "commands, save the model that they change."
        )
    rank, _ = Counter(ranks.values()).most_common(1)[0]
    others = {f"^{re.escape(path)}": other for path, other in ranks.items() if other != rank}
    config = LoraConfig(
        r=rank, lora_alpha=rank, target_modules=list(ranks), rank_pattern=others, alpha_pattern=dict(others)
    )
    inject_adapter_in_model(config, diffuser, name)


@contextmanager
def without_loras(diffuser: nn.Module) -> Generator[None]:
    """Within this context a diffuser computes as if it held no LoRAs. Those that are active learn again afterwards."""
    layers = [layer for _, layer in adapted_layers(diffuser)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def group_of(path: str) -> str:
    """Returns the kind and modality that a layer belongs to, such as "context_layers.text"."""
    return ".".join(path.split(".")[:2])


def _modules(network: nn.Module) -> dict[str, nn.Module]:
    return dict(network.named_modules())  # pyright: ignore[reportUnknownArgumentType] - typed in part in PyTorch
