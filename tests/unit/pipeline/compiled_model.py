"""Compiles the bundled model and prints what became of it: run by test_compilation, where shapes are not checked."""

import json
import threading
from typing import Any

import torch
from torch import Generator
from torch._dynamo.utils import counters

from versatile_diffusion import Context, VersatileDiffusionPipeline


def main() -> None:
    torch.set_num_threads(2)  # so that contexts are computed by workers
    pipe = VersatileDiffusionPipeline.from_pretrained("postcards")
    pipe.set_progress_bar_config(disable=True)
    picture = torch.rand(3, 64, 64, generator=Generator().manual_seed(0))
    contexts = [Context("text", "a red tent"), Context("image", picture)]

    def made(to: str) -> torch.Tensor:
        options: dict[str, Any] = {"num_inference_steps": 2, "output_type": "latent"}
        return pipe.generate(to, contexts, generator=Generator().manual_seed(1), **options).latents

    eager = [made(to) for to in ("image", "text")]
    pipe.compile(backend="eager")  # captures the graphs, which is what can go wrong, and compiles no kernels
    errors: list[float] = []

    def compare() -> None:
        errors.extend(
            float((made(to) - before).abs().max()) for before, to in zip(eager, ("image", "text"), strict=True)
        )

    elsewhere = threading.Thread(target=compare)  # as in a server
    elsewhere.start()
    elsewhere.join()
    graphs = counters["stats"]["unique_graphs"]
    print(json.dumps({"errors": errors, "graphs": graphs, "breaks": dict(counters["graph_break"])}))


if __name__ == "__main__":
    main()
