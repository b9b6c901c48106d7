"""Text-to-image of the large model on a GPU, beside diffusers: what compiling, CUDA graphs and layouts give.

python benchmarks/gpu.py --json gpu.json
python benchmarks/gpu.py --json cpu.json --device cpu --tiny --steps 2 --dtype bf16 --batch 1 --batch 4 --no-compiled

Weights are random, so no network is needed. The file is written anew after each part.
"""

from __future__ import annotations

import copy
import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from rich.console import Console
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from versatile_diffusion.bench.diffuser import converted, random_peer
from versatile_diffusion.bench.report import Figure, Machine, Report, Result, Settings
from versatile_diffusion.bench.timing import Timed, alternate, ratios, seconds
from versatile_diffusion.checkpoints.components import official_scheduler
from versatile_diffusion.devices import DTYPES, choose_device
from versatile_diffusion.diffuser import ContextTokens, Diffuser
from versatile_diffusion.files import write_whole
from versatile_diffusion.model_presets import Preset, tiny, vd_four_flow
from versatile_diffusion.pipeline.acceleration import compile_blocks
from versatile_diffusion.sampling.guidance import Guidance, guided_denoiser
from versatile_diffusion.sampling.sampler import Denoiser, Schedule, sample

PEER = "diffusers, eager"
TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 1e-1}
AT_MOST, AT_LEAST = 0.48, 1.5
TOKENS, SCALE = 77, 7.5
WARM_UPS = 3  # before a capture, as PyTorch asks
PEAKS = {
    "H200": 989.4, "H100 PCIe": 756.0, "H100": 989.4, "A100": 311.8, "L40S": 362.0, "L4": 121.0, "A10": 125.0,
    "RTX 4090": 165.2, "RTX 3090": 71.0, "T4": 65.1,
}  # fmt: skip
"""TFLOP/s of dense products in 16 bits, from NVIDIA's data sheets; the first name that fits counts."""


@dataclass(frozen=True)
class Setup:
    """What all parts share."""

    device: torch.device
    dtype: torch.dtype
    preset: Preset
    steps: int
    rounds: int
    compiled: bool
    batches: tuple[int, ...]

    def latents(self, number: int, batch: int) -> Tensor:
        """Noise to start from, drawn anew for each number."""
        shape = (batch, *self.preset.image.latent_shape)
        return torch.randn(shape, generator=torch.Generator().manual_seed(number)).to(self.device)

    def tokens(self, batch: int) -> Tensor:
        """Of two contexts (2 × batch, 77, d): first those without a condition."""
        shape = (2 * batch, TOKENS, self.preset.text.context_encoder["projection_dim"])
        return torch.randn(shape, generator=torch.Generator().manual_seed(batch)).to(self.device, self.dtype)

    def synchronize(self) -> None:
        """Waits until the device has done all that it was told to."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Models:
    """Networks with the same random weights, each made when it is first asked for by its way of computing."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.peer = random_peer(setup.preset, "image").to(setup.device, setup.dtype)
        self.ours = converted(self.peer, setup.preset, "image", ["text"])
        self._made: dict[str, nn.Module] = {}

    @property
    def ways(self) -> list[str]:
        """Names of all that can be done here."""
        plain = ["eager", "channels_last"] + ["compiled", "compiled, channels_last"] * self.setup.compiled
        graphs = [f"{way}, CUDA graph" for way in plain] if self.setup.device.type == "cuda" else []
        theirs = [PEER] + ["diffusers, compiled"] * self.setup.compiled
        return [f"ours, {way}" for way in plain + graphs] + theirs

    def denoiser(self, way: str, batch: int) -> Denoiser:
        """A guided denoiser of some pictures at once."""
        tokens = self.setup.tokens(batch)
        denoise = _denoiser(self._network(way.removesuffix(", CUDA graph")), tokens)
        if not way.endswith("CUDA graph"):
            return denoise
        return Graphed(denoise, self.setup.latents(0, batch), torch.tensor(1, device=self.setup.device))

    def _network(self, way: str) -> nn.Module:
        if way not in self._made:
            model = self.ours if way.startswith("ours") else self.peer
            shared: dict[int, Any] = {id(weight): weight for weight in model.parameters()}
            network = copy.deepcopy(model, None if "channels_last" in way else shared)
            if "channels_last" in way:
                network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            if "compiled" in way:
                _compile(network)
            self._made[way] = network
        return self._made[way]


class Graphed:
    """A denoiser as one CUDA graph. What it gives is good until the next call."""

    def __init__(self, denoise: Denoiser, latents: Tensor, timestep: Tensor) -> None:
        self.latents, self.timestep = latents, timestep
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                denoise(latents, timestep)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.noise = denoise(latents, timestep)

    def __call__(self, latents: Tensor, timestep: Tensor) -> Tensor:
        """Noise in the latents."""
        self.latents.copy_(latents)
        self.timestep.copy_(timestep)
        self.graph.replay()
        return self.noise


def _denoiser(network: nn.Module, tokens: Tensor) -> Denoiser:
    if isinstance(network, Diffuser):
        without, given = ([ContextTokens("text", part)] for part in tokens.chunk(2))
        return guided_denoiser(network, "image", given, without, Guidance(SCALE))

    def denoise(latents: Tensor, timestep: Tensor) -> Tensor:
        both = latents.to(tokens.dtype).repeat(2, 1, 1, 1)
        without, given = network(both, timestep, tokens).sample.to(latents.dtype).chunk(2)
        return without + SCALE * (given - without)

    return denoise


def _compile(network: nn.Module) -> None:
    if isinstance(network, Diffuser):
        compile_blocks(network)
    else:
        network.compile()


def walk(setup: Setup, denoise: Denoiser, number: int, batch: int, steps: int) -> Tensor:
    """Latents of pictures, when the device is done."""
    schedule = Schedule.plan(official_scheduler(), steps, device=setup.device)
    made = sample(denoise, setup.latents(number, batch), schedule)
    setup.synchronize()
    return made


def one_picture(setup: Setup, models: Models) -> Result:
    """All ways in turns, whose outputs are compared first. What fails is told, and left out."""
    works: dict[str, Callable[[int], Tensor]] = {}
    how: dict[str, Any] = {
        "dtype": str(setup.dtype),
        "steps": setup.steps,
        "latents": "×".join(map(str, setup.preset.image.latent_shape)),
    }
    reference = walk(setup, models.denoiser(PEER, 1), setup.rounds, 1, 1)
    for way in models.ways:
        try:
            denoise = models.denoiser(way, 1)
            made = walk(setup, denoise, setup.rounds, 1, 1)
        except Exception as error:  # of a compiler or a driver: the others still count
            how[f"{way} failed"] = f"{type(error).__name__}: {error}"[:300]
            continue
        off = float((made - reference).norm() / reference.norm())
        if not off < TOLERANCE[setup.dtype]:
            how[f"{way} failed"] = f"its output differs by {off:.1e}"
            continue
        works[way] = lambda number, denoise=denoise: walk(setup, denoise, number, 1, setup.steps)
        works[way](setup.rounds)
    if PEER not in works:
        raise RuntimeError(f"There is nothing to compare with: {how}")
    return Result("One picture, without decoding", _figures(setup, alternate(works, setup.rounds), models), how)


def _figures(setup: Setup, found: Mapping[str, list[Timed[Tensor]]], models: Models) -> list[Figure]:
    figures: list[Figure] = []
    cuda = setup.device.type == "cuda"
    name = torch.cuda.get_device_name(setup.device) if cuda else ""
    peak = next((1e12 * rate for card, rate in PEAKS.items() if card in name), None)
    for way, runs in found.items():
        took = seconds(runs)
        mine = way.startswith("ours")
        figures.append(Figure(way, "s", took, at_most=AT_MOST if mine and "H100" in name else None))
        figures.append(Figure(f"{way}: rate", "it/s", [setup.steps / run for run in took]))
        if peak:
            flops = setup.steps * _flops(setup, models.denoiser("ours, eager" if mine else PEER, 1))
            figures.append(Figure(f"{way}: of the arithmetic peak", "×", [flops / run / peak for run in took]))
        if way != PEER:
            faster = ratios(runs, found[PEER])
            figures.append(
                Figure(f"{way}: faster than {PEER}", "×", faster, at_least=AT_LEAST if mine and cuda else None)
            )
    return figures


def _flops(setup: Setup, denoise: Denoiser) -> int:
    """Operations of a step other than the first, which also computes keys and values."""
    inputs = setup.latents(0, 1), torch.tensor(1, device=setup.device)
    denoise(*inputs)
    with FlopCounterMode(display=False) as counter:
        denoise(*inputs)
    return counter.get_total_flops()


def batches(setup: Setup, models: Models, ways: list[str]) -> Result:
    """Whole pictures in a second, decoding included, in batches until memory ends."""
    autoencoder: Any = AutoencoderKL(**setup.preset.image.autoencoder).eval()
    autoencoder.to(setup.device, setup.dtype)
    autoencoder.enable_slicing()
    figures: list[Figure] = []
    how: dict[str, Any] = {"dtype": str(setup.dtype), "steps": setup.steps}
    for way in ways:
        rates: dict[int, list[float]] = {}
        for batch in setup.batches:
            try:
                rates[batch] = _rates(setup, models, way, batch, autoencoder)
            except Exception as error:  # out of memory, mostly
                how[f"{way} ended at {batch}"] = f"{type(error).__name__}: {error}"[:200]
                break
            finally:
                torch._dynamo.reset()  # each size is compiled for itself
                if setup.device.type == "cuda":
                    torch.cuda.empty_cache()
        figures += [Figure(f"{way}: batches of {batch}", "pictures/s", found) for batch, found in rates.items()]
        if rates:
            best = max(rates, key=lambda batch: statistics.median(rates[batch]))
            figures.append(Figure(f"{way}: best, in batches of {best}", "pictures/s", rates[best]))
    return Result("Pictures in batches, with decoding", figures, how)


def _rates(setup: Setup, models: Models, way: str, batch: int, autoencoder: Any) -> list[float]:
    denoise = models.denoiser(way, batch)

    def work(number: int, steps: int = setup.steps) -> None:
        autoencoder.decode(walk(setup, denoise, number, batch, steps).to(setup.dtype), return_dict=False)
        setup.synchronize()

    work(0, 1)
    return [batch / run for run in seconds(alternate({way: work}, setup.rounds)[way])]


def main(
    as_json: Annotated[Path, typer.Option("--json", help="A file for the figures.")] = Path("gpu.json"),
    device: str = "cuda",
    dtype: Annotated[list[str], typer.Option(help="fp16, bf16.")] = ["fp16", "bf16"],  # noqa: B006 - typer copies it
    batch: Annotated[list[int], typer.Option(min=1)] = [1, 2, 4, 8, 16, 32],  # noqa: B006
    steps: Annotated[int, typer.Option(min=1)] = 50,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    compiled: Annotated[bool, typer.Option(help="Compile, which takes minutes.")] = True,
    tiny_model: Annotated[bool, typer.Option("--tiny", help="A tiny model, to try the command.")] = False,
) -> None:
    """Measures, and writes what there is after each part."""
    if unknown := [name for name in dtype if DTYPES.get(name) not in TOLERANCE]:
        raise typer.BadParameter(f"--dtype is fp16 or bf16, got {', '.join(unknown)}.")
    preset = tiny() if tiny_model else vd_four_flow()
    report = Report(Machine.here(), Settings(rounds, "random", steps, preset=preset), {})
    console = Console()

    def keep(name: str, result: Result) -> None:
        report.results[name] = result
        write_whole(as_json, (json.dumps(report.as_dict(), indent=2) + "\n").encode())
        console.print(result.table())

    for name in dtype:
        setup = Setup(choose_device(device), DTYPES[name], preset, steps, rounds, compiled, tuple(batch))
        with torch.inference_mode():
            models = Models(setup)
            result = one_picture(setup, models)
            keep(f"one picture, {name}", result)
            times = {figure.name: figure.median for figure in result.figures if figure.unit == "s"}
            best = min((way for way in times if way.startswith("ours")), key=lambda way: times[way], default=None)
            keep(f"batches, {name}", batches(setup, models, [best, PEER] if best else [PEER]))
        del models
    console.print(str(report.machine))


if __name__ == "__main__":
    typer.run(main)
