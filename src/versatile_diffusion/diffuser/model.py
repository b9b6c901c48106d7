"""The diffuser: the only walker of the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook  # pyright: ignore[reportUnknownVariableType] - untyped
from jaxtyping import Float, Int
from torch import Tensor, nn

from versatile_diffusion.diffuser.context_layers import ContextBlock, ContextLayers, repeated
from versatile_diffusion.diffuser.data_layers import DataLayers
from versatile_diffusion.diffuser.global_layers import GlobalLayers
from versatile_diffusion.diffuser.plan import ContextStep, DataStep, DiffuserConfig, Plan, PopStep, PushStep, Role

DataLayersFactory = Callable[[Plan], DataLayers]

ContextCall = tuple[ContextBlock, tuple[Tensor, Tensor]]
"""A block of one context, and the keys and values that it attends to, as many as that context has tokens."""


@dataclass(frozen=True)
class ContextTokens:
    """What the context layers of one modality attend to.

    Attributes:
        modality: whose context layers to use.
        tokens: (b n d).
        weight: share in the mixture, relative to the other contexts'.
    """

    modality: str
    tokens: Float[Tensor, "b n d"]
    weight: float = 1.0


@dataclass(frozen=True)
class PreparedContext:
    """A context whose keys and values are known, so that no step computes them again.

    Attributes:
        modality: whose context layers made them.
        kv_cache: keys and values of the context's tokens, for each context step of the plan.
        weight: share in the mixture, relative to the other contexts'.
    """

    modality: str
    kv_cache: tuple[tuple[Float[Tensor, "b h n _"], Float[Tensor, "b h n _"]], ...]  # of other widths at each level
    weight: float = 1.0

    def __len__(self) -> int:
        """Returns how many sequences of tokens it holds."""
        return len(self.kv_cache[0][0])


class Diffuser(ModelMixin, ConfigMixin):
    """Predicts the noise in a latent of any output modality, from contexts of any modalities (paper, section 3.2).

    Args:
        config: sizes that all modalities share.
        data_layers: for each output modality, what makes its data layers for a plan.
        context_dims: for each context modality, the width of its tokens.

    Attributes:
        gradient_checkpointing: whether training keeps only what goes into each block, and computes the rest again for
            the gradients; see `enable_gradient_checkpointing`.
        map: runs the blocks of several contexts, as an attribute so that what runs them at once can take its place.
    """

    config_name = "config.json"
    _supports_gradient_checkpointing = True
    _gradient_checkpointing_func: Callable[..., Tensor]  # which `enable_gradient_checkpointing` sets
    _repeated_blocks = ["ResidualBlock", "ContextBlock"]  # noqa: RUF012 - the name and type that diffusers reads

    def __init__(
        self, config: DiffuserConfig, data_layers: Mapping[str, DataLayersFactory], context_dims: Mapping[str, int]
    ) -> None:
        super().__init__()
        sizes = asdict(config) | {"outputs": list(data_layers), "context_dims": dict(context_dims)}
        self.register_to_config(**sizes)  # pyright: ignore[reportUnknownMemberType] - untyped in diffusers
        self.plan = Plan.of(config)
        self.global_layers = GlobalLayers(config)
        self.data_layers = nn.ModuleDict({name: make(self.plan) for name, make in data_layers.items()})
        self.context_layers = nn.ModuleDict({name: ContextLayers(self.plan, d) for name, d in context_dims.items()})
        self.gradient_checkpointing = False
        self.map: Callable[[Callable[[ContextCall], Tensor], Sequence[ContextCall]], Iterable[Tensor]] = map

    @apply_forward_hook  # so that offloaded weights come as for `forward`
    def prepare(self, contexts: Sequence[ContextTokens]) -> list[PreparedContext]:
        """Computes the keys and values of contexts, which do not depend on the latents, once for all steps.

        They belong to the weights as they are now: prepare the contexts again after those have changed.
        """
        return [self._prepared(context) for context in contexts]

    def forward(
        self,
        latents: Float[Tensor, "b *latent"],
        timesteps: Int[Tensor, "b"] | Float[Tensor, "b"],
        output: str,
        contexts: Sequence[ContextTokens | PreparedContext],
    ) -> Float[Tensor, "kb *latent"]:
        """Predicts the noise.

        Args:
            latents: noisy latents of the output modality.
            timesteps: 0 … 999, one for each latent.
            output: modality of the latents.
            contexts: at least one; several are mixed by weight at every context step. With tokens (k·b n d), all
                latents are denoised k times; what no context has told apart yet is computed once.
        """
        prepared = [c if isinstance(c, PreparedContext) else self._prepared(c) for c in contexts]
        stacks = [zip(self.context_blocks(c.modality), c.kv_cache, strict=True) for c in prepared]
        total = sum(c.weight for c in prepared)
        shares = [c.weight / total for c in prepared]
        attending = (partial(self._attend, calls=calls, shares=shares) for calls in zip(*stacks, strict=True))
        return self.walk(latents, timesteps, output, attending)

    def walk(
        self,
        latents: Float[Tensor, "b *latent"],
        timesteps: Int[Tensor, "b"] | Float[Tensor, "b"],
        output: str,
        attending: Iterable[Callable[[Tensor], Tensor]],
    ) -> Float[Tensor, "kb ..."]:
        """Predicts the noise as `forward` does, where every context step of the plan is given as a function.

        Args:
            latents, timesteps, output: see `forward`.
            attending: for each context step, in their order, what makes features (kb c *s) of features (b c *s).
        """
        time = self.global_layers(timesteps)
        data = iter(cast(DataLayers, self.data_layers[output]))  # a ModuleDict holds modules of any kind
        attend = iter(attending)
        kept: list[Tensor] = []
        x = latents
        for step in self.plan.steps:
            match step:
                case DataStep(role=Role.UPSAMPLE):
                    x = self.run_block(next(data), x, repeated(time, len(x)), kept[-1].shape[2:])
                case DataStep():
                    x = self.run_block(next(data), x, repeated(time, len(x)))
                case ContextStep():
                    x = next(attend)(x)
                case PushStep():
                    kept.append(x)
                case PopStep():
                    x = torch.cat([x, repeated(kept.pop(), len(x))], dim=1)
        return x

    def run_block(self, block: nn.Module, *inputs: object) -> Tensor:
        """Returns what a block makes of its inputs; with `gradient_checkpointing`, keeps nothing that lies between."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(block, *inputs)
        return block(*inputs)

    def require_no_loras(self) -> None:
        """Raises ValueError if it holds LoRAs: their weights would go unseen into a model that cannot read them."""
        if any(".lora_" in name for name, _ in self.named_parameters()):
            raise ValueError(
                "The diffuser holds LoRAs. Call `unload_lora` to save the model without them, `fuse_and_unload_lora` "
                "to save it changed by them, or `save_lora` to save one alone."
            )

    def save_pretrained(self, *args: Any, **options: Any) -> None:
        """Saves the network as diffusers does. Raises ValueError as `require_no_loras` does."""
        self.require_no_loras()
        super().save_pretrained(*args, **options)  # pyright: ignore[reportUnknownMemberType] - untyped in part

    def context_blocks(self, modality: str) -> Iterable[ContextBlock]:
        """Returns the context layers of a modality, one for each context step of the plan."""
        return cast(Iterable[ContextBlock], self.context_layers[modality])  # a ModuleDict holds modules of any kind

    def _prepared(self, context: ContextTokens) -> PreparedContext:
        blocks = self.context_blocks(context.modality)
        kv_cache = tuple(block.attend_cross.keys_values(context.tokens) for block in blocks)
        return PreparedContext(context.modality, kv_cache, context.weight)

    def _attend(self, x: Float[Tensor, "b c *s"], calls: Sequence[ContextCall], shares: Sequence[float]) -> Tensor:
        """Lets features find something in each context, and mixes what they became."""
        attended = self.map(lambda call: self.run_block(call[0], x, call[1]), calls)
        return mix(list(attended), shares)


def mix(features: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Averages what the contexts made of the same features, by their shares."""
    if len(features) == 1:
        return features[0]
    mixed = features[0] * shares[0]
    for feature, share in zip(features[1:], shares[1:], strict=True):
        mixed = mixed.add(feature, alpha=share)
    return mixed
