"""A backbone of TorchUMM (github.com/AIFrontierLab/TorchUMM), and of harnesses like it: generate, understand, edit.

docs/measuring.md tells where to put this file, and shows a configuration.
"""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch

from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.devices import choose_device, choose_dtype

DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


class VersatileDiffusionBackbone:
    """Versatile Diffusion as such harnesses call a model: text in, pictures out, and the other way round.

    Every call draws from the next seed, unless its parameters say which: a harness that asks four times for a picture
    of a prompt gets four.
    """

    name = "versatile_diffusion"

    def load(self, cfg: dict[str, Any]) -> None:
        """Opens the model.

        Args:
            cfg: model_path (a bundled name, a folder or a hub id), seed, device, torch_dtype, and for each task options
                of its calls: generation_cfg, understanding_cfg, editing_cfg.
        """
        device = choose_device(cfg.get("device", "auto"))
        dtype = str(cfg.get("torch_dtype", "auto"))
        self.pipe = VersatileDiffusionPipeline.from_pretrained(
            cfg.get("model_path", "postcards"), torch_dtype=choose_dtype(DTYPES.get(dtype, dtype), device)
        ).to(device)
        self.pipe.set_progress_bar_config(disable=True)
        self.seeds = count(int(cfg.get("seed", 42)))
        self.defaults = {task: cfg.get(f"{task}_cfg") or {} for task in ("generation", "understanding", "editing")}

    def generation(
        self, prompt: str, output_path: str | None = None, generation_cfg: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Paints a prompt. Returns "images" of PIL, and "saved_paths" where these are, if they are to be saved.

        There is no "image" beside them: harnesses that gather what they find would count the first one twice.
        """
        options = self._options("generation", generation_cfg)
        return self._painted(self.pipe.text_to_image(prompt, **options).images, output_path)

    def understanding(
        self,
        prompt: str | None = None,
        images: Sequence[Any] = (),
        videos: Sequence[Any] = (),
        understanding_cfg: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Describes pictures (paths, or of PIL), all of them in one text. Returns "text", and all that were asked for.

        The model describes, and answers no questions: the prompt is left out, unless the parameter prompt_weight makes
        it a context with that share beside the pictures.
        """
        if videos or not (images or prompt):
            raise ValueError("Give pictures, or a prompt to say in other words; videos are not understood.")
        options = self._options("understanding", understanding_cfg)
        weight = float(options.pop("prompt_weight", 0 if images else 1))
        contexts = [Context("image", image, weight=(1 - weight) / len(images)) for image in images]
        contexts += [Context("text", prompt, weight=weight)] if prompt else []
        texts = self.pipe.generate("text", contexts, **options).texts
        return {"text": texts[0], "texts": texts}

    def editing(
        self,
        prompt: str,
        images: Sequence[Any],
        output_path: str | None = None,
        editing_cfg: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Changes the first picture into what the prompt says. Returns what `generation` does."""
        return self._painted(
            self.pipe.edit(images[0], prompt, **self._options("editing", editing_cfg)).images, output_path
        )

    def _options(self, task: str, given: dict[str, Any] | None) -> dict[str, Any]:
        options = {**self.defaults[task], **(given or {})}
        first, outputs = options.pop("seed", None), int(options.get("num_outputs", 1))
        seeds = [next(self.seeds) if first is None else int(first) + number for number in range(outputs)]
        return {**options, "generator": [torch.Generator().manual_seed(seed) for seed in seeds]}

    @staticmethod
    def _painted(images: list[Any], output_path: str | None) -> dict[str, Any]:
        if output_path is None:
            return {"images": images}
        first = Path(output_path)
        first.parent.mkdir(parents=True, exist_ok=True)
        files = [first, *(first.with_stem(f"{first.stem}_{number}") for number in range(1, len(images)))]
        for image, file in zip(images, files, strict=True):
            image.save(file)
        return {"images": images, "saved_paths": [str(file) for file in files]}
