"""Context layers: one stack of blocks for each context modality, one block for each context step of the plan.

A block is a transformer on the positions of the output's features: self-attention, cross-attention to the context's
tokens and a gated feed-forward layer. It does not know which modality is being denoised.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu

from versatile_diffusion.diffuser.plan import Plan
from versatile_diffusion.kernels.attention import attention
from versatile_diffusion.kernels.linear import Linear
from versatile_diffusion.kernels.rows import by_rows

GROUPS = 32

KeysValues = tuple[Float[Tensor, "kb h n k"], Float[Tensor, "kb h n k"]]
"""Of h heads."""


class Attention(nn.Module):
    """Multi-head attention from queries (b s c) to sources (b n d)."""

    def __init__(self, channels: int, source_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = Linear(channels, channels, bias=False)
        self.key = Linear(source_dim, channels, bias=False)
        self.value = Linear(source_dim, channels, bias=False)
        self.out = Linear(channels, channels)

    def remember(self, source: Float[Tensor, "b n d"]) -> KeysValues:
        """What is attended to: it does not depend on the queries."""
        return self._in_heads(self.key(source)), self._in_heads(self.value(source))

    def forward(self, x: Float[Tensor, "b s c"], memory: KeysValues) -> Float[Tensor, "b s c"]:
        attended = attention(self._in_heads(self.query(x)), *memory)
        return self.out(attended.transpose(1, 2).flatten(2))

    def _in_heads(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b h n k"]:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class GatedFeedForward(nn.Module):
    """Four times as wide inside, gated by a GELU of the other half (GEGLU)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project_in = Linear(channels, 8 * channels)
        self.project_out = Linear(4 * channels, channels)

    def forward(self, x: Float[Tensor, "b s c"]) -> Float[Tensor, "b s c"]:
        return by_rows(self._gated, x, width=8 * x.shape[-1])

    def _gated(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        hidden, gate = self.project_in(x).chunk(2, dim=-1)
        return self.project_out(hidden * gelu(gate))


class ContextBlock(nn.Module):
    """One context step: attends from features (b c *positions) to a context (b n d)."""

    def __init__(self, channels: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.project_in = Linear(channels, channels)
        self.norm_self = nn.LayerNorm(channels)
        self.attend_self = Attention(channels, channels, heads)
        self.norm_cross = nn.LayerNorm(channels)
        self.attend_cross = Attention(channels, context_dim, heads)
        self.norm_feed_forward = nn.LayerNorm(channels)
        self.feed_forward = GatedFeedForward(channels)
        self.project_out = Linear(channels, channels)
        for parameter in self.project_out.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, x: Float[Tensor, "b c *s"], tokens: Float[Tensor, "kb n d"], memory: KeysValues | None = None
    ) -> tuple[Float[Tensor, "kb c *s"], KeysValues]:
        """The features, and the keys and values of the tokens, which spare computing them again if given back.

        Where there are k times as many sequences of tokens, the features are repeated as late as can be: here.
        """
        memory = self.attend_cross.remember(tokens) if memory is None else memory
        hidden = self.project_in(self.norm(x).flatten(2).transpose(1, 2))
        normed = self.norm_self(hidden)
        hidden = hidden + self.attend_self(normed, self.attend_self.remember(normed))
        hidden, x = repeated(hidden, len(tokens)), repeated(x, len(tokens))
        hidden = hidden + self.attend_cross(self.norm_cross(hidden), memory)
        hidden = hidden + self.feed_forward(self.norm_feed_forward(hidden))
        return x + self.project_out(hidden).transpose(1, 2).unflatten(2, x.shape[2:]), memory


def repeated(x: Float[Tensor, "b *c"], batch: int) -> Float[Tensor, "kb *c"]:
    """The whole batch as often as it takes to make one of that size. Channels stay where they lie in memory."""
    return x if len(x) == batch else torch.cat([x] * (batch // len(x)))


class ContextLayers(nn.ModuleList):
    """The blocks of one context modality, in the order of the plan's context steps.

    Args:
        context_dim: width of the context's tokens.
    """

    def __init__(self, plan: Plan, context_dim: int) -> None:
        super().__init__(ContextBlock(step.channels, context_dim, plan.config.num_heads) for step in plan.context)
