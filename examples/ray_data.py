"""Makes a picture of every line of a list with Ray Data (pip install "ray[data]"): an actor a GPU, or a CPU.

python examples/ray_data.py prompts.jsonl pictures --actors 2
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.applications.prompt_lists import Prompt, batches, make, read_prompts
from versatile_diffusion.devices import DTYPES, choose_device, choose_dtype

Rows = dict[str, np.ndarray]


class Painter:
    """What an actor is made of: it opens the model once, and makes pictures of the rows that it is sent.

    Args:
        model: see `VersatileDiffusionPipeline.from_pretrained`.
        size: pictures made at once.
        dtype: see `devices.choose_dtype`.
        options: see `generate`.
    """

    def __init__(self, model: str = "postcards", size: int = 8, dtype: str = "auto", **options: Any) -> None:
        device = choose_device()  # Ray shows each actor its own GPU
        self.pipe = VersatileDiffusionPipeline.from_pretrained(
            model, torch_dtype=choose_dtype(dtype, device), flows=["text-to-image", "image-variation"]
        ).to(device)
        self.pipe.pack()  # as `vd batch` does; unpacked it may round otherwise
        self.pipe.set_progress_bar_config(disable=True)
        self.size, self.options = size, options

    def __call__(self, rows: Rows) -> Rows:
        """Columns line, text, image and seed, as `to_rows` makes them -> columns line, seed and png, in any order."""
        prompts = [to_prompt(*values) for values in zip(*(rows[name] for name in _COLUMNS), strict=True)]
        made: list[tuple[int, int, bytes]] = []
        for batch in batches(prompts, num=1, seed=0, size=self.size):
            for wanted, picture in zip(batch, make(self.pipe, "image", batch, **self.options).images, strict=True):
                file = io.BytesIO()
                picture.save(file, "PNG")
                made.append((wanted.prompt.line, wanted.seed, file.getvalue()))
        lines, seeds, files = zip(*made, strict=True)
        return {"line": np.array(lines), "seed": np.array(seeds), "png": np.array(files, dtype=object)}


def to_rows(prompts: list[Prompt], seed: int) -> list[dict[str, Any]]:
    """Prompts as Ray keeps them; those without a seed get this one."""
    return [
        {
            "line": prompt.line,
            "text": prompt.text,
            "image": None if prompt.image is None else str(prompt.image.absolute()),
            "seed": seed if prompt.seed is None else prompt.seed,
        }
        for prompt in prompts
    ]


def to_prompt(line: Any, text: str | None, image: str | None, seed: Any) -> Prompt:
    """The prompt of a row."""
    return Prompt(int(line), text, None if image is None else Path(image), int(seed))


_COLUMNS = ("line", "text", "image", "seed")


def main() -> None:
    """Writes line-0001-seed-0.png and so on."""
    import ray

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="postcards")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--actors", type=int, default=1)
    parser.add_argument("--dtype", default="auto", choices=["auto", *DTYPES])
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = ray.data.from_items(to_rows(read_prompts(arguments.prompts), arguments.seed))
    made = rows.map_batches(
        Painter,
        fn_constructor_kwargs={
            "model": arguments.model,
            "size": arguments.batch_size,
            "dtype": arguments.dtype,
            "num_inference_steps": arguments.steps,
        },
        batch_size=arguments.batch_size,
        compute=ray.data.ActorPoolStrategy(size=arguments.actors),
        num_gpus=1 if torch.cuda.is_available() else 0,
    )
    for row in made.iter_rows():
        (arguments.output / f"line-{row['line']:04}-seed-{row['seed']}.png").write_bytes(row["png"])


if __name__ == "__main__":
    main()
