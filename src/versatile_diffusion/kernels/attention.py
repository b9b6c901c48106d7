"""Attention in bfloat16 on CPUs that multiply it, but not in tiles.

There, PyTorch's own attention computes in float32 (`benchmarks/products.py attention`). Here products are of bfloat16,
hundreds of queries of one head at a time, so that their scores stay in the cache and the whole matrix is never built.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear, pad, scaled_dot_product_attention

from versatile_diffusion.kernels.concurrency import at_once

MANY = 1024
"""Queries, and keys, that there must be for this way to pay."""

_ROWS = 512
_SAMPLE = 16  # one key of so many tells about where the highest score lies
_BLOCK = 16  # widths that are multiples of it are quick


def attention(
    queries: Float[Tensor, "b h s d"], keys: Float[Tensor, "b h n d"], values: Float[Tensor, "b h n d"]
) -> Float[Tensor, "b h s d"]:
    """Returns what `torch.nn.functional.scaled_dot_product_attention` does."""
    if torch.compiler.is_compiling() or not _lacks_tiles(queries):  # what a CPU can do is not to be traced
        return scaled_dot_product_attention(queries, keys, values)
    if torch.is_grad_enabled():
        return _in_float32(queries, keys, values)
    if min(queries.shape[-2], keys.shape[-2]) < MANY:
        return scaled_dot_product_attention(queries, keys, values)
    attended, scaled = torch.empty_like(queries), queries * (math.log2(math.e) * queries.shape[-1] ** -0.5)
    heads = list(product(*map(range, queries.shape[:2])))
    for _ in at_once(lambda h: _attend(scaled[h], keys[h], values[h], attended[h]), heads, queries.device):
        pass
    return attended


def _attend(
    queries: Float[Tensor, "s d"], keys: Float[Tensor, "n d"], values: Float[Tensor, "n d"], out: Float[Tensor, "s d"]
) -> None:
    """One head, of queries for powers of 2, which are quicker than those of e.

    Scores are rounded to bfloat16, which is exact enough only near 0. So those of a query are moved there, which
    changes no weight: each becomes the product of (query, -highest) and (key, 1). The weights are not normalised:
    their sum is that of values which are all 1.
    """
    dim = values.shape[-1]
    highest = linear(queries, keys[::_SAMPLE].contiguous()).amax(-1, keepdim=True)
    queries, keys = torch.cat([queries, -highest], dim=-1), pad(keys, (0, 1), value=1.0)
    values = pad(pad(values, (0, 1), value=1.0), (0, -(dim + 1) % _BLOCK)).t().contiguous()

    def weigh(weights: Callable[[Tensor], Tensor]) -> Float[Tensor, "s c"]:
        return torch.cat([linear(weights(linear(part, keys)), values) for part in torch.split(queries, _ROWS)])

    attended = weigh(torch.exp2_)
    if not attended[:, dim].isfinite().all():  # a key that was not in the sample scores far higher
        attended = weigh(lambda scores: (scores * math.log(2)).softmax(-1))
    torch.div(attended[:, :dim], attended[:, dim : dim + 1], out=out)


def _in_float32(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """For training: the gradient of PyTorch's attention in bfloat16 takes eight times as long there."""
    with torch.autocast("cpu", enabled=False):
        attended = scaled_dot_product_attention(queries.float(), keys.float(), values.float())
    return attended.to(queries.dtype)


def _lacks_tiles(tensor: Tensor) -> bool:
    """Whether it is of bfloat16 on a CPU that computes with such numbers, but not in tiles."""
    return (
        tensor.dtype == torch.bfloat16
        and tensor.device.type == "cpu"
        and torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportPrivateUsage] - PyTorch tells it no other way
        and not torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage] - likewise
    )
