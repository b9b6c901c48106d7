"""The diffuser: the only walker of the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import repeat
from typing import Any, TypeVar, cast

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float, Int
from torch import Tensor, nn

from versatile_diffusion.diffuser.context_layers import ContextBlock, ContextLayers, KeysValues, repeated
from versatile_diffusion.diffuser.data_layers import DataLayers
from versatile_diffusion.diffuser.global_layers import GlobalLayers
from versatile_diffusion.diffuser.plan import Context, Data, DiffuserConfig, Plan, Pop, Push, Role
from versatile_diffusion.kernels.concurrency import at_once

DataLayersFactory = Callable[[Plan], DataLayers]
T = TypeVar("T")


@dataclass(frozen=True)
class ContextTokens:
    """What the context layers of one modality attend to.

    Attributes:
        modality: whose context layers to use.
        tokens: (b n d).
        weight: share in the mixture, relative to the other contexts'.
        memory: a list, empty at first, where the diffuser keeps the keys and values of the tokens for its next steps;
            None keeps nothing.
    """

    modality: str
    tokens: Float[Tensor, "b n d"]
    weight: float = 1.0
    memory: list[KeysValues] | None = field(default=None, compare=False, repr=False)


class Diffuser(ModelMixin, ConfigMixin):
    """Predicts the noise in a latent of any output modality, from contexts of any modalities (paper, section 3.2).

    Args:
        config: sizes that all modalities share.
        data_layers: for each output modality, what makes its data layers for a plan.
        context_dims: for each context modality, the width of its tokens.

    Attributes:
        contexts_at_once: whether the CPU computes several contexts at once, a share of its threads each.
    """

    config_name = "config.json"
    _supports_gradient_checkpointing = False
    _repeated_blocks = ["ResidualBlock", "ContextBlock"]  # noqa: RUF012 - the name and type that diffusers reads

    def __init__(
        self, config: DiffuserConfig, data_layers: Mapping[str, DataLayersFactory], context_dims: Mapping[str, int]
    ) -> None:
        super().__init__()
        self.register_to_config(**asdict(config), outputs=list(data_layers), context_dims=dict(context_dims))
        self.plan, self.contexts_at_once = Plan.of(config), True
        self.global_layers = GlobalLayers(config)
        self.data_layers = nn.ModuleDict({name: make(self.plan) for name, make in data_layers.items()})
        self.context_layers = nn.ModuleDict({name: ContextLayers(self.plan, d) for name, d in context_dims.items()})

    def forward(
        self,
        latents: Float[Tensor, "b *latent"],
        timesteps: Int[Tensor, "b"] | Float[Tensor, "b"],
        output: str,
        contexts: Sequence[ContextTokens],
    ) -> Float[Tensor, "kb *latent"]:
        """Predicts the noise.

        Args:
            latents: noisy latents of the output modality.
            timesteps: 0 … 999, one for each latent.
            output: modality of the latents.
            contexts: at least one; several are mixed by weight at every context step. With tokens (k·b n d), all
                latents are denoised k times; what no context has told apart yet is computed once.
        """
        time = self.global_layers(timesteps)
        data = iter(cast(DataLayers, self.data_layers[output]))
        stacks = [self._stack(context) for context in contexts]
        total = sum(context.weight for context in contexts)
        kept: list[Tensor] = []
        x = latents
        for step in self.plan.steps:
            match step:
                case Data(role=Role.UPSAMPLE):
                    x = next(data)(x, repeated(time, len(x)), kept[-1].shape[2:])
                case Data():
                    x = next(data)(x, repeated(time, len(x)))
                case Context():
                    blocks = [(context, *next(stack)) for context, stack in zip(contexts, stacks, strict=True)]
                    attended = self._each(lambda block, x=x: attend(x, *block), blocks, x.device)
                    x = mix(attended, [context.weight / total for context in contexts])
                case Push():
                    kept.append(x)
                case Pop():
                    x = torch.cat([x, repeated(kept.pop(), len(x))], dim=1)
        return x

    def require_no_loras(self) -> None:
        """Raises ValueError if it holds LoRAs: their weights would go unseen into a model that cannot read them."""
        if any(".lora_" in name for name, _ in self.named_parameters()):
            raise ValueError(
                "The diffuser holds LoRAs. Call `unload_loras` to save the model without them, `bake_loras` to save it "
                "changed by them, or `save_lora` to save one alone."
            )

    def save_pretrained(self, *args: Any, **options: Any) -> None:
        """As in diffusers. Raises as `require_no_loras`."""
        self.require_no_loras()
        super().save_pretrained(*args, **options)

    def _each(self, compute: Callable[[T], Tensor], items: Sequence[T], device: torch.device) -> list[Tensor]:
        return list(at_once(compute, items, device) if self.contexts_at_once else map(compute, items))

    def _stack(self, context: ContextTokens) -> Iterator[tuple[ContextBlock, KeysValues | None]]:
        """The blocks of a context, with what they remember of its tokens."""
        blocks = cast(Sequence[ContextBlock], self.context_layers[context.modality])
        return zip(blocks, list(context.memory or ()) or repeat(None))  # noqa: B905 - endless


def attend(x: Tensor, context: ContextTokens, block: ContextBlock, known: KeysValues | None) -> Tensor:
    """What a block makes of features; what it remembers is kept if the context asks for it."""
    x, memory = block(x, context.tokens, known)
    if known is None and context.memory is not None:
        context.memory.append(memory)
    return x


def mix(features: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """The average of what the contexts made of the same features, by their shares."""
    if len(features) == 1:
        return features[0]
    mixed = features[0] * shares[0]
    for feature, share in zip(features[1:], shares[1:], strict=True):
        mixed = mixed.add(feature, alpha=share)
    return mixed
