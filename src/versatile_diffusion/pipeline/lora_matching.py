"""Which layers of a network a LoRA on disk changes, whoever wrote it, and filling them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from versatile_diffusion.checkpoints.errors import CheckpointError, first_few, reading
from versatile_diffusion.checkpoints.lora_files import Factors, LoraFile
from versatile_diffusion.pipeline.lora_layers import FACTORS, adaptable_layers, adapted_layers, group_of

_OURS = ("context_layers.", "data_layers.", "global_layers.")


def matched(
    network: nn.Module, names: Mapping[str, str], theirs: Mapping[str, Factors], lora: LoraFile
) -> dict[str, Factors]:
    """Returns what is to be added to each layer of a network, by our names.

    Args:
        network: a diffuser or a text encoder. Layers of flows that it was opened without are left out.
        names: our names of layers by theirs.
        theirs: what the LoRA adds, by their names.
        lora: where that is from, for errors.

    Raises:
        CheckpointError: if a layer is not there, or of another size.
    """
    layers = dict(adaptable_layers(network))
    groups = {group_of(path) for path in layers}
    found: dict[str, Factors] = {}
    wrong: list[str] = []
    for name, factors in theirs.items():
        path = names.get(name, name)
        if path not in layers:
            if group_of(path) in groups or not path.startswith(_OURS):
                wrong.append(f"{name} is not there")
        elif not factors.fits(weight := tuple(layers[path].weight.shape)):
            wrong.append(f"{name} has {(factors.down.shape, factors.up.shape)} instead of {factors.wanted(weight)}")
        elif path in found:
            wrong.append(f"{name} is there under another name, too")
        else:
            found[path] = factors
    if wrong:
        raise CheckpointError(
            f"{lora.file} is a LoRA of another model: {len(wrong)} layers do not fit ({first_few(wrong)}).{lora.told} "
            "Load that model, with all its flows, or train a LoRA for this one."
        )
    return found


def fill(network: nn.Module, name: str, changes: Mapping[str, Factors]) -> None:
    """Copies factors into the LoRA of that name, which the layers have already."""
    for path, layer in adapted_layers(network):
        if path in changes:
            weight = cast(Tensor, layer.get_base_layer().weight)  # of a linear layer or a convolution
            with reading(path):
                tensors = changes[path].load(tuple(weight.shape))
            for factor, tensor in zip(FACTORS, tensors, strict=True):
                # In the model's own type: it computes in one.
                getattr(layer, factor)[name].to(weight.dtype).weight.data.copy_(tensor)
