"""Context layers: one stack of blocks for each context modality, one block for each context step of the plan.

A block is a transformer on the positions of the output's features: self-attention, cross-attention to the context's
tokens and a gated feed-forward layer. It does not know which modality is being denoised.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from versatile_diffusion.diffuser.plan import Plan

GROUPS = 32

KeysValues = tuple[Float[Tensor, "kb h n k"], Float[Tensor, "kb h n k"]]
"""Keys and values of h heads."""


class Attention(nn.Module):
    """Multi-head attention from queries (b s c) to sources (b n d).

    Args:
        channels: of queries, and of what is found.
        source_dim: width of sources.
        heads: among which the channels are shared out.
        source_scale: what sources are multiplied by.

    Attributes:
        attend: PyTorch's attention of heads, as an attribute so that another implementation can take its place.
    """

    def __init__(self, channels: int, source_dim: int, heads: int, source_scale: float = 1.0) -> None:
        super().__init__()
        self.heads, self.source_scale = heads, source_scale
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(source_dim, channels, bias=False)
        self.value = nn.Linear(source_dim, channels, bias=False)
        self.out = nn.Linear(channels, channels)
        self.attend: Callable[[Tensor, Tensor, Tensor], Tensor] = scaled_dot_product_attention

    def keys_values(self, source: Float[Tensor, "b n d"]) -> KeysValues:
        """Returns what is attended to, which does not depend on the queries."""
        scaled = source if self.source_scale == 1 else source * self.source_scale
        return self._in_heads(self.key(scaled)), self._in_heads(self.value(scaled))

    def forward(self, x: Float[Tensor, "b s c"], keys_values: KeysValues) -> Float[Tensor, "b s c"]:
        """Returns what the queries of `x` find."""
        attended = self.attend(self._in_heads(self.query(x)), *keys_values)
        return self.out(attended.transpose(1, 2).flatten(2))

    def _in_heads(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b h n k"]:
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2)


class GatedGELU(nn.Module):
    """Multiplies half of the channels by the GELU of the other half (GEGLU, arXiv 2002.05202)."""

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c//2"]:
        """Returns half as many channels."""
        hidden, gate = x.chunk(2, dim=-1)
        return hidden * gelu(gate)


def gated_feed_forward(channels: int) -> nn.Sequential:
    """Makes a feed-forward layer that is four times as wide inside, after its gate."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            project_in=nn.Linear(channels, 8 * channels),
            gate=GatedGELU(),
            project_out=nn.Linear(4 * channels, channels),
        )
    )


class ContextBlock(nn.Module):
    """One context step: attends from features (b c *positions) to a context (b n d)."""

    def __init__(self, channels: int, context_dim: int, heads: int, context_scale: float = 1.0) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.project_in = nn.Linear(channels, channels)
        self.norm_self = nn.LayerNorm(channels)
        self.attend_self = Attention(channels, channels, heads)
        self.norm_cross = nn.LayerNorm(channels)
        self.attend_cross = Attention(channels, context_dim, heads, context_scale)
        self.norm_feed_forward = nn.LayerNorm(channels)
        self.feed_forward = gated_feed_forward(channels)
        self.project_out = nn.Linear(channels, channels)
        for parameter in self.project_out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "b c *s"], keys_values: KeysValues) -> Float[Tensor, "kb c *s"]:
        """Returns the features, changed by what they find in the context.

        Where there are keys and values of k times as many sequences, the features are repeated as late as can be: here.

        Args:
            x: features.
            keys_values: what `attend_cross.keys_values` makes of the context's tokens.
        """
        hidden = self.project_in(self.norm(x).flatten(2).transpose(1, 2))
        normed = self.norm_self(hidden)
        hidden = hidden + self.attend_self(normed, self.attend_self.keys_values(normed))
        sequences = len(keys_values[0])
        hidden, x = repeated(hidden, sequences), repeated(x, sequences)
        hidden = hidden + self.attend_cross(self.norm_cross(hidden), keys_values)
        hidden = hidden + self.feed_forward(self.norm_feed_forward(hidden))
        return x + self.project_out(hidden).transpose(1, 2).unflatten(2, x.shape[2:])


def repeated(x: Float[Tensor, "b *c"], batch: int) -> Float[Tensor, "kb *c"]:
    """Returns the whole batch as often as it takes to make one of that size. Channels stay where they lie in memory."""
    return x if len(x) == batch else torch.cat([x] * (batch // len(x)))


class ContextLayers(nn.ModuleList):
    """The blocks of one context modality, in the order of the plan's context steps.

    Args:
        plan: the order and the sizes of the steps.
        context_dim: width of the context's tokens.
    """

    def __init__(self, plan: Plan, context_dim: int) -> None:
        heads, scale = plan.config.num_heads, plan.config.context_scale
        super().__init__(ContextBlock(step.channels, context_dim, heads, scale) for step in plan.context)
