"""Times what the diffuser is made of on this CPU: products of a few rows, and a step of a stream, operator by operator.

python benchmarks/products.py products
python benchmarks/products.py attention
python benchmarks/products.py packing --dtype fp32
python benchmarks/products.py convolutions
python benchmarks/products.py rows
python benchmarks/products.py autoencoder
python benchmarks/products.py arithmetic
python benchmarks/products.py without image
python benchmarks/products.py profile image --pack
python benchmarks/products.py profile text
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import ModuleType
from typing import Annotated, Any
from unittest.mock import patch

import torch
import typer
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, scaled_dot_product_attention
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from versatile_diffusion.bench.timing import alternate, seconds
from versatile_diffusion.devices import choose_dtype
from versatile_diffusion.diffuser import ContextTokens
from versatile_diffusion.diffuser.context_layers import gated_feed_forward
from versatile_diffusion.flows import Flow
from versatile_diffusion.kernels import attention as attention_kernel
from versatile_diffusion.kernels import optimization, optimize, winograd
from versatile_diffusion.kernels import rows as rows_kernel
from versatile_diffusion.kernels.linear import linear as ours
from versatile_diffusion.kernels.norms import SmallGroupNorm
from versatile_diffusion.kernels.packing import pack
from versatile_diffusion.kernels.rows import FeedForwardByRows, compute_by_rows
from versatile_diffusion.model_presets import build, vd_four_flow

ROWS = (1, 2, 8, 32, 64, 128, 308)
CONVOLUTIONS = (
    *((2, 320, 320, 64), (2, 960, 320, 64), (2, 640, 640, 32), (2, 1280, 1280, 32), (2, 1280, 1280, 16)),
    *((2, 1280, 1280, 8), (1, 512, 512, 128), (1, 256, 256, 256)),
)
_WINOGRAD = 36 / 144  # multiplications of a block of 4×4 pixels, of those of the direct way
COPIES = 8  # of the weights, taken in turns, so that none is still in a cache
WAYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "1×1 convolution": lambda rows, weight: conv2d(rows[..., None, None], weight[..., None, None]),
    "linear": linear,
    "ours (oneDNN)": ours,
}

app = typer.Typer(help=__doc__, rich_markup_mode=None)


@app.command()
@torch.inference_mode()
def products(outputs: int = 5120, inputs: int = 5120, rounds: int = 9) -> None:
    """Medians in ms of products of rows with one weight."""
    weights = [torch.randn(outputs, inputs) for _ in range(COPIES)]
    table = Table("rows", *WAYS, title=f"ms, weights {outputs} × {inputs}, float32")
    for count in ROWS:
        rows = torch.randn(count, inputs)
        found: dict[str, list[float]] = {name: [] for name in WAYS}
        for i in range(rounds):
            for j, (name, way) in enumerate(WAYS.items()):
                begun = time.perf_counter()
                way(rows, weights[(i * len(WAYS) + j) % COPIES])
                found[name].append(1e3 * (time.perf_counter() - begun))
        table.add_row(str(count), *(f"{statistics.median(took):.1f}" for took in found.values()))
    Console().print(table)


@app.command()
@torch.inference_mode()
def attention(rounds: int = 5) -> None:
    """Medians in ms of self-attention in bfloat16, two pictures of 512², at the first two levels."""
    table = Table("queries × width of 8 heads", "PyTorch", "ours", title="ms, bfloat16")
    for count, width in ((4096, 40), (1024, 80)):
        q, k, v = (torch.randn(2, count, 8, width, dtype=torch.bfloat16).transpose(1, 2) for _ in range(3))
        ways = {"PyTorch": scaled_dot_product_attention, "ours": attention_kernel.attention}
        table.add_row(f"{count} × {width}", *_medians({n: partial(way, q, k, v) for n, way in ways.items()}, rounds))
    Console().print(table)


@app.command()
@torch.inference_mode()
def packing(dtype: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto", rounds: int = 7) -> None:
    """Medians in ms of layers of the diffuser as they are, and with their weights laid out for oneDNN."""
    numbers = choose_dtype(dtype, torch.device("cpu"))
    table = Table("layer, input", "as it is", "packed", title=f"ms, {numbers}")
    for name, layer, shape in _layers():
        kinds = {
            name: nn.ModuleList(copy.deepcopy(layer) for _ in range(COPIES)).to(numbers) for name in ("", "packed")
        }
        pack(kinds["packed"])
        x = torch.randn(shape, dtype=numbers)
        x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
        works = {kind: partial(_all, layers, x) for kind, layers in kinds.items()}
        table.add_row(name, *(f"{float(median) / COPIES:.2f}" for median in _medians(works, rounds)))
    Console().print(table)


@app.command()
@torch.inference_mode()
def convolutions(rounds: int = 5) -> None:
    """Medians in ms of 3×3 convolutions in float32, by each way, with all channels last."""
    ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "PyTorch": partial(conv2d, padding=1),
        "Winograd": winograd.convolve,
    }
    table = Table("pictures, channels, pixels", *ways, title="ms, float32")
    for count, inner, outer, side in CONVOLUTIONS:
        x, *weights = (
            torch.randn(shape).contiguous(memory_format=torch.channels_last)
            for shape in ((count, inner, side, side), *[(outer, inner, 3, 3)] * COPIES)
        )
        works = {name: lambda way=way, x=x, ws=weights: [way(x, w) for w in ws] for name, way in ways.items()}
        taken = (f"{float(median) / COPIES:.1f}" for median in _medians(works, rounds))
        table.add_row(f"{count}, {inner} → {outer}, {side}²", *taken)
    Console().print(table)


@app.command()
@torch.inference_mode()
def rows(dtype: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto", rounds: int = 7) -> None:
    """Medians in ms of packed feed-forward layers of two pictures, whole and by some rows at a time."""
    numbers = choose_dtype(dtype, torch.device("cpu"))
    table = Table("channels, rows", "whole", "by rows", title=f"ms, {numbers}")
    for channels, count in ((320, 8192), (640, 2048), (1280, 512)):
        layer, x = gated_feed_forward(channels).to(numbers).eval(), torch.randn(1, count, channels, dtype=numbers)
        pack(layer)
        works = {"": partial(layer, x), "rows": partial(FeedForwardByRows(layer, 8 * channels), x)}
        table.add_row(f"{channels}, {count}", *_medians(works, rounds))
    Console().print(table)


@app.command()
@torch.inference_mode()
def norms(rounds: int = 9) -> None:
    """Medians in ms of group norms of 32 groups in bfloat16, of images whose channels lie side by side."""
    table = Table("images, channels, pixels", "PyTorch", "copied", title="ms, bfloat16")
    for count, channels, side in ((2, 64, 8), (64, 64, 8), (64, 128, 4), (64, 320, 8), (2, 320, 64)):
        x = torch.randn(count, channels, side, side, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
        layer = nn.GroupNorm(32, channels)
        works = {"PyTorch": partial(layer, x), "copied": partial(SmallGroupNorm(layer), x)}
        table.add_row(f"{count}, {channels}, {side}²", *_medians(works, rounds))
    Console().print(table)


@app.command()
@torch.inference_mode()
def autoencoder(dtype: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto", rounds: int = 3) -> None:
    """Medians in ms of the image autoencoder at 512², with its channels last in memory, and packed."""
    numbers, preset = choose_dtype(dtype, torch.device("cpu")), vd_four_flow().image
    plain, packed = (AutoencoderKL(**preset.autoencoder).to(numbers).eval() for _ in range(2))
    pack(packed)
    latents, pictures = (torch.randn(1, *shape, dtype=numbers) for shape in ((4, 64, 64), (3, 512, 512)))
    table = Table("", "as it comes", "channels last", "packed", title=f"ms, {numbers}")
    for name, x, ways in (
        ("decoding", latents, (plain.decode, packed.decode)),
        ("encoding", pictures, (plain.encode, packed.encode)),
    ):
        last = x.contiguous(memory_format=torch.channels_last)
        works = {"": partial(ways[0], x), "last": partial(ways[0], last), "packed": partial(ways[1], last)}
        table.add_row(name, *_medians(works, rounds))
    Console().print(table)


def _layers() -> Iterator[tuple[str, nn.Module, tuple[int, ...]]]:
    for inner, outer, side in ((320, 320, 64), (640, 640, 32), (1280, 1280, 16), (1280, 1280, 8)):
        name = f"3×3 convolution {inner} → {outer}, {side}²"
        yield name, nn.Conv2d(inner, outer, 3, padding=1), (2, inner, side, side)
    for inner, outer, rows in ((320, 2560, 8192), (1280, 10240, 512), (5120, 5120, 2), (5120, 5120, 8), (768, 3072, 4)):
        yield f"linear {inner} → {outer}, {rows} rows", nn.Linear(inner, outer), (rows, inner)


def _all(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    return [layer(x) for layer in layers][-1]


@app.command()
@torch.inference_mode()
def arithmetic() -> None:
    """Operations of a guided step of a picture from one context, and from two: what computing must cost at least."""
    names = ("text", "image")
    with torch.device("meta"):
        diffuser = build(vd_four_flow(), [Flow(output="image", context=name) for name in names]).diffuser
        latents, timesteps, tokens = torch.empty(1, 4, 64, 64), torch.zeros(1), torch.empty(2, 77, 768)
    table = Table("contexts", "convolutions", "others", "all", "by Winograd's F(4×4, 3×3)", title="TFLOP")
    counted: list[Tensor] = []
    for contexts in (names[:1], names):
        with FlopCounterMode(display=False) as counter:
            diffuser(latents, timesteps, "image", [ContextTokens(name, tokens) for name in contexts])
        operations = counter.get_flop_counts()["Global"]
        whole, convolved = sum(operations.values()), operations[torch.ops.aten.convolution]
        counted.append(torch.tensor([convolved, whole - convolved, whole, whole - convolved * (1 - _WINOGRAD)]))
        table.add_row(str(len(contexts)), *(f"{count:.3f}" for count in (counted[-1] / 1e12).tolist()))
    table.add_row("2 / 1", *(f"{ratio:.2f}" for ratio in (counted[1] / counted[0]).tolist()))
    Console().print(table)


@app.command()
@torch.inference_mode()
def without(
    output: Annotated[str, typer.Argument(help="image or text.")],
    dtype: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    rounds: int = 3,
) -> None:
    """Seconds of a guided step of the official sizes, and of one that does without a technique."""
    numbers = choose_dtype(dtype, torch.device("cpu"))
    flows = [Flow(output=output, context=name) for name in ("text", "image")]
    packed, plain = (build(vd_four_flow(), flows) for _ in range(2))
    shape = packed.modalities[output].latent_shape()
    optimize(packed.diffuser.to(dtype=numbers))
    optimize(plain.diffuser.to(dtype=numbers), training=True)
    compute_by_rows(plain.diffuser)

    def step(
        number: int, diffuser: nn.Module = packed.diffuser, copies: int = 1, known: bool = False, contexts: int = 1
    ) -> Tensor:
        generator = torch.Generator().manual_seed(number)
        latents = torch.randn(1, *shape, generator=generator).to(numbers).repeat(copies, *(1 for _ in shape))
        return diffuser(latents, torch.full((copies,), 981), output, prepared if known else tokens(contexts))

    def tokens(contexts: int) -> list[ContextTokens]:
        drawn = torch.randn(2, 77, 768, generator=torch.Generator().manual_seed(0)).to(numbers)
        return [ContextTokens(name, drawn) for name in ("text", "image")[:contexts]]

    def patched(module: ModuleType, name: str, value: Any, contexts: int = 1) -> Callable[[int], Tensor]:
        def work(number: int) -> Tensor:
            with patch.object(module, name, value):
                return step(number, contexts=contexts)

        return work

    prepared = packed.diffuser.prepare(tokens(1))
    works: dict[str, Callable[[int], Tensor]] = {
        "all": step,
        "all, and keys and values known from the step before": partial(step, known=True),
        "without packed weights": partial(step, diffuser=plain.diffuser),
        "without attention of its own": patched(attention_kernel, "MANY", sys.maxsize),
        "without feed-forward layers by rows": patched(rows_kernel, "CACHED", sys.maxsize),
        "without heads of attention at once": patched(attention_kernel, "at_once", in_turn),
        "without sharing what guidance has not told apart": partial(step, copies=2),
        "two contexts": partial(step, contexts=2),
        "two contexts, one after the other": patched(optimization, "at_once", in_turn, contexts=2),
    }
    for work in works.values():
        work(0)
    table = Table("a step", "s", "lowest – highest", title=f"{output}, {numbers}")
    for name, runs in alternate(works, rounds).items():
        took = seconds(runs)
        table.add_row(name, f"{statistics.median(took):.3f}", f"{min(took):.3f} – {max(took):.3f}")
    Console().print(table)


def in_turn(compute: Callable[[Any], Any], items: Iterable[Any], device: torch.device) -> Iterator[Any]:
    """Instead of `at_once`."""
    return map(compute, items)


def _medians(works: Mapping[str, Callable[[], object]], rounds: int) -> list[str]:
    for work in works.values():
        work()
    found = alternate({name: lambda _, work=work: work() for name, work in works.items()}, rounds)
    return [f"{1e3 * statistics.median(seconds(runs)):.1f}" for runs in found.values()]


@app.command("profile")
@torch.inference_mode()
def profiled(
    output: Annotated[str, typer.Argument(help="image or text.")],
    packed: Annotated[bool, typer.Option("--pack", help="Lay weights out first, as the commands do.")] = False,
    dtype: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
) -> None:
    """Where the time of a guided step goes, at the official sizes with random weights and one context of 77 tokens."""
    components = build(vd_four_flow(), [Flow(output=output, context="text")])
    numbers = choose_dtype(dtype, torch.device("cpu"))
    diffuser = components.diffuser.to(dtype=numbers)
    shape = components.modalities[output].latent_shape()
    latents = torch.randn(2, *shape, dtype=numbers)
    tokens = [ContextTokens("text", torch.randn(2, 77, 768, dtype=numbers))]
    if packed:
        optimize(diffuser)

    def step() -> None:
        diffuser(latents, torch.tensor([981, 981]), output, tokens)

    step()
    begun = time.perf_counter()
    step()
    print(f"{time.perf_counter() - begun:.2f} s")
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        step()
    print(found.key_averages(group_by_input_shape=output == "text").table("self_cpu_time_total", row_limit=16))


if __name__ == "__main__":
    app()
