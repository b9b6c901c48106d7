"""The pipeline: encode the contexts, sample, decode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from jaxtyping import Float
from torch import Generator, Tensor, nn

from versatile_diffusion.context import Context
from versatile_diffusion.diffuser.model import ContextTokens, Diffuser
from versatile_diffusion.guidance import Guidance, guided_denoiser
from versatile_diffusion.modalities.base import Modality
from versatile_diffusion.sampling import draw_noise, plan_timesteps, sample

if TYPE_CHECKING:
    from versatile_diffusion.checkpoints import Components

CallbackOnStepEnd = Callable[["VersatileDiffusionPipeline", int, Tensor, dict[str, Tensor]], dict[str, Tensor] | None]


@dataclass
class Outputs:
    """What was made.

    Attributes:
        modality: of the items.
        items: pictures, texts or whatever the modality makes, those of the first context first; for output_type
            "latent" the latents.
        latents: (b *latent), in the diffuser's scale.
        per_context: how many outputs each item of a batch of contexts has.
    """

    modality: str
    items: Any
    latents: Tensor
    per_context: int = 1

    @property
    def images(self) -> Any:
        """The pictures."""
        return self._of("image")

    @property
    def texts(self) -> Any:
        """The texts."""
        return self._of("text")

    @property
    def groups(self) -> list[Any]:
        """The items of each context of a batch."""
        return [self.items[i : i + self.per_context] for i in range(0, len(self.items), self.per_context)]

    def _of(self, modality: str) -> Any:
        if self.modality != modality:
            raise AttributeError(f"These outputs are of modality {self.modality!r}: read .items.")
        return self.items


class Modalities(nn.ModuleDict):
    """Modalities by name, as one component of the pipeline."""

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What they compute in."""
        return next(self.parameters()).dtype


class VersatileDiffusionPipeline(DiffusionPipeline):
    """Makes any modality from any modalities (paper, figure 1).

    Args:
        diffuser: predicts the noise.
        scheduler: any diffusers scheduler for noise prediction; may be replaced at any time.
        modalities: by name.
    """

    model_cpu_offload_seq = "modalities->diffuser"

    def __init__(self, diffuser: Diffuser, scheduler: Any, modalities: Mapping[str, Modality]) -> None:
        super().__init__()
        self.register_modules(diffuser=diffuser, scheduler=scheduler, modalities=Modalities(modalities))
        self.diffuser: Diffuser
        self.scheduler: Any
        self.modalities: Modalities

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        source: str | Path,
        torch_dtype: torch.dtype | None = None,
        flows: Sequence[str] | None = None,
        **options: Any,
    ) -> Self:
        """Opens a model.

        Args:
            source: "postcards" (bundled), a hub id, a saved folder (ours or diffusers'), or a folder of official .pth
                files.
            torch_dtype: of the weights; by default as they were saved, or float32 where that cannot be computed with.
            flows: names such as "text-to-image" or "image-variation": only what these need is read. None is all.
            options: see `checkpoints.open_source`.

        Raises:
            CheckpointError: if the source is unknown, incomplete or damaged; the message says what to do.
        """
        from versatile_diffusion.checkpoints import open_source
        from versatile_diffusion.flows import Flow

        wanted = None if flows is None else [Flow.parse(flow) for flow in flows]
        components = open_source(source, flows=wanted, torch_dtype=torch_dtype, **options)
        return cls(components.diffuser, components.scheduler, components.modalities)

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **options: Any) -> None:
        """Saves to a folder that `from_pretrained` opens, whole or not at all.

        Args:
            save_directory: the folder.
            push_to_hub: whether to upload the folder, too.
            options: for the upload: repo_id, private, token, commit_message.
        """
        from versatile_diffusion.checkpoints import save

        save(self.parts, Path(save_directory))
        if push_to_hub:
            from huggingface_hub import HfApi

            api = HfApi(token=options.pop("token", None))
            repo_id = options.pop("repo_id", Path(save_directory).name)
            repo_id = api.create_repo(repo_id, private=options.pop("private", None), exist_ok=True).repo_id
            api.upload_folder(repo_id=repo_id, folder_path=save_directory, **options)

    @property
    def parts(self) -> Components:
        """What is saved."""
        from versatile_diffusion.checkpoints import Components

        modalities = {name: self._modality(name) for name in self.modalities}
        return Components(diffuser=self.diffuser, modalities=modalities, scheduler=self.scheduler)

    # ---- the four flows and their mixtures ----

    def text_to_image(self, prompt: str | list[str], **options: Any) -> Outputs:
        """Pictures of a text. For the options see `generate`."""
        return self.generate("image", [Context("text", prompt)], **options)

    def image_to_text(self, image: Any, **options: Any) -> Outputs:
        """Texts about a picture. For the options see `generate`."""
        return self.generate("text", [Context("image", image)], **options)

    def image_variation(
        self, image: Any, fidelity: float = 0.0, focus: float = 0.5, color_adjust: bool = False, **options: Any
    ) -> Outputs:
        """Pictures like a picture.

        Args:
            image: the picture, or a list of them.
            fidelity: how much of the picture's layout is kept: 0 starts from noise, 1 is the picture itself.
            focus: 0 keeps semantics, 1 keeps style, 0.5 keeps both.
            color_adjust: whether to give the results the picture's colour statistics.
            options: see `generate`.

        Raises:
            ValueError: if fidelity or focus do not lie in [0, 1].
        """
        if not 0 <= fidelity <= 1:
            raise ValueError(f"fidelity must lie between 0 (free) and 1 (the picture itself), got {fidelity}.")
        if fidelity > 0:
            options = {"start": image, "strength": 1 - fidelity} | options
        return self.generate("image", [Context("image", image, focus=focus)], **options)

    def text_variation(self, prompt: str | list[str], **options: Any) -> Outputs:
        """Texts like a text. For the options see `generate`."""
        return self.generate("text", [Context("text", prompt)], **options)

    def dual_guided(
        self, prompt: str | list[str], image: Any, text_to_image_strength: float = 0.5, **options: Any
    ) -> Outputs:
        """Pictures of a text and a picture.

        Args:
            prompt: the text.
            image: the picture.
            text_to_image_strength: share of the text; 0 is the picture alone, 1 the text alone.
            options: see `generate`.
        """
        text = Context("text", prompt, weight=text_to_image_strength)
        return self.generate("image", [text, Context("image", image, weight=1 - text_to_image_strength)], **options)

    # ---- what all of them call ----

    @torch.no_grad()
    def generate(
        self,
        to: str,
        contexts: Context | Sequence[Context],
        *,
        num_outputs: int = 1,
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
        guidance_interval: tuple[float, float] | None = None,
        negative: Context | Sequence[Context] | None = None,
        start: Any = None,
        strength: float = 1.0,
        latents: Float[Tensor, "b *latent"] | None = None,
        height: int | None = None,
        width: int | None = None,
        eta: float = 0.0,
        generator: Generator | Sequence[Generator] | None = None,
        output_type: str = "pil",
        callback_on_step_end: CallbackOnStepEnd | None = None,
        **decoding: Any,
    ) -> Outputs:
        """Makes outputs of one modality from contexts of any.

        Args:
            to: modality to make.
            contexts: what to condition on; each holds one item or a batch.
            num_outputs: outputs for each item of the batch.
            num_inference_steps: steps of the whole schedule.
            guidance_scale: 1 is no guidance.
            guidance_interval: see `Guidance`.
            negative: contexts to move away from, instead of the unconditional of that modality.
            start: data of modality `to`, or its latents, to start from.
            strength: 1 forgets the start, 0 keeps it.
            latents: noise to start from instead of drawing it.
            height: of the outputs, in pixels.
            width: of the outputs, in pixels.
            eta: how much variance DDIM draws anew.
            generator: one for all outputs, or one for each. An output depends on its generator alone, not on its batch.
            output_type: "pil", "pt", "np" or "latent".
            callback_on_step_end: called as (pipeline, step, timestep, {"latents": …}) after each step; may return a
                dictionary with other latents. Setting `pipeline._interrupt = True` in it stops the sampling.
            decoding: options of the modality's `decode`, such as temperature for texts.

        Raises:
            ValueError, TypeError: if an argument is not usable; the message says what would be.
        """
        modality = self._modality(to)
        used = _used(contexts)
        groups = self._batch_size(used)
        count = groups * num_outputs
        if num_outputs < 1:
            raise ValueError(f"num_outputs must be 1 or more, got {num_outputs}.")
        generators = _one_each(generator, count)
        conditional, unconditional = self._encode_contexts(to, used, negative, groups, num_outputs)
        device = self._execution_device
        begin = None if start is None else self._encode_start(modality, start, groups, num_outputs).to(device)
        noise = self._noise(modality, begin, latents, (height, width), count, generators)

        self._interrupt = False
        timesteps = plan_timesteps(self.scheduler, num_inference_steps, strength if start is not None else 1.0, device)
        guidance = Guidance(guidance_scale, guidance_interval, self.scheduler.config.num_train_timesteps)
        denoise = guided_denoiser(self.diffuser, to, conditional, unconditional, guidance)
        with self.progress_bar(total=len(timesteps)) as bar:

            def on_step(step: int, timestep: Tensor, latents: Tensor) -> Tensor | None:
                bar.update()
                if callback_on_step_end is not None:
                    latents = (callback_on_step_end(self, step, timestep, {"latents": latents}) or {}).get(
                        "latents", latents
                    )
                return None if self._interrupt else latents

            result = sample(
                denoise,
                noise,
                self.scheduler,
                timesteps,
                start=begin,
                generators=generators,
                eta=eta,
                on_step=on_step,
            )
        self.maybe_free_model_hooks()
        if output_type == "latent":
            return Outputs(to, result, result, num_outputs)
        items = modality.present(modality.decode(result, generators, **decoding), output_type)
        return Outputs(to, items, result, num_outputs)

    def encode_context(self, modality: str, data: Any) -> Float[Tensor, "b n d"]:
        """Context tokens of data."""
        bound = self._modality(modality)
        return bound.embed(bound.read(data))

    def encode(self, modality: str, data: Any) -> Float[Tensor, "b *latent"]:
        """Latents of data, in the diffuser's scale."""
        bound = self._modality(modality)
        return bound.encode(bound.read(data))

    def decode(self, modality: str, latent: Float[Tensor, "b *latent"], output_type: str = "pil", **options: Any) -> Any:
        """Data of latents."""
        bound = self._modality(modality)
        return bound.present(bound.decode(latent, **options), output_type)

    # ---- details ----

    def _modality(self, name: str) -> Modality:
        if name not in self.modalities:
            raise ValueError(f"This model knows {', '.join(self.modalities)}, not {name!r}.")
        return self.modalities[name]  # pyright: ignore[reportReturnType]

    def _batch_size(self, contexts: Sequence[Context]) -> int:
        sizes = {c.modality: _length(c) for c in contexts}
        batched = {size for size in sizes.values() if size != 1}
        if len(batched) > 1:
            raise ValueError(f"The contexts hold batches of different sizes: {sizes}.")
        return batched.pop() if batched else 1

    def _encode_contexts(
        self,
        to: str,
        contexts: Sequence[Context],
        negative: Context | Sequence[Context] | None,
        groups: int,
        num_outputs: int,
    ) -> tuple[list[ContextTokens], list[ContextTokens]]:
        """Tokens of the contexts and of no contexts, one row for each output."""
        instead = {c.modality: self._tokens(c) for c in _sequence(negative)} if negative is not None else {}
        if unused := set(instead) - {c.modality for c in contexts}:
            raise ValueError(f"A negative context needs a context of the same modality beside it: {unused}.")
        conditional: list[ContextTokens] = []
        unconditional: list[ContextTokens] = []
        for context in contexts:
            if context.modality not in self.diffuser.context_layers:
                raise ValueError(
                    f"No context layers for {context.modality!r} are loaded: load with a flow from {context.modality}."
                )
            tokens = self._tokens(context)
            nothing = instead.get(context.modality)
            if nothing is None:
                nothing = self._unconditional(to, context, tokens)
            for rows, into in ((tokens, conditional), (nothing, unconditional)):
                rows = _rows(rows, groups, num_outputs, context.modality)
                rows = rows.to(self._execution_device, self.diffuser.dtype)
                into.append(ContextTokens(context.modality, rows, context.weight))
        return conditional, unconditional

    def _tokens(self, context: Context) -> Float[Tensor, "b n d"]:
        modality = self._modality(context.modality)
        tokens = context.embedding
        if tokens is None:
            tokens = modality.embed(modality.read(context.data), masks=context.mask)
        else:
            check_embedding(tokens, self.diffuser.config["context_dims"][context.modality], context.modality)
        return tokens if context.focus == 0.5 else modality.focus(tokens, context.focus)

    def _unconditional(
        self, to: str, context: Context, tokens: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b n d"]:
        if isinstance(context.unconditional, Tensor):
            check_embedding(context.unconditional, tokens.shape[-1], context.modality)
            return context.unconditional
        if context.unconditional == "zeros":
            return torch.zeros_like(tokens[:1])
        return self._modality(context.modality).unconditional(to)

    def _encode_start(self, modality: Modality, start: Any, groups: int, num_outputs: int) -> Tensor:
        dims = len(modality.latent_shape()) + 1
        is_latent = isinstance(start, Tensor) and start.ndim == dims and start.shape[1] == modality.latent_shape()[0]
        latents = start if is_latent else modality.encode(modality.read(start))
        return _rows(latents.float(), groups, num_outputs, f"start {modality.name}")

    def _noise(
        self,
        modality: Modality,
        begin: Tensor | None,
        latents: Tensor | None,
        size: tuple[int | None, int | None],
        count: int,
        generators: Sequence[Generator] | None,
    ) -> Tensor:
        shape = (count, *(modality.latent_shape(*size) if begin is None else begin.shape[1:]))
        if latents is None:
            return draw_noise(shape, generators, self._execution_device)
        if latents.shape != shape:
            raise ValueError(f"latents must have shape {shape}, got {tuple(latents.shape)}.")
        return latents.to(self._execution_device, torch.float32)


def check_embedding(embedding: Tensor, width: int, modality: str) -> None:
    """Raises ValueError unless an embedding is (b n width) and finite."""
    if embedding.ndim != 3 or embedding.shape[-1] != width:
        raise ValueError(
            f"The {modality} embedding must have shape (batch, tokens, {width}), got {tuple(embedding.shape)}."
        )
    if not embedding.isfinite().all():
        raise ValueError(f"The {modality} embedding holds numbers that are not finite.")


def _sequence(contexts: Context | Sequence[Context]) -> Sequence[Context]:
    return [contexts] if isinstance(contexts, Context) else contexts


def _used(contexts: Context | Sequence[Context]) -> list[Context]:
    """Contexts of any weight: those at 0 take no part, and cost nothing."""
    used = [context for context in _sequence(contexts) if context.weight > 0]
    if not used:
        raise ValueError("Nothing to condition on: give at least one context with a weight above 0.")
    return [replace(used[0], weight=1.0)] if len(used) == 1 else used


def _length(context: Context) -> int:
    if context.embedding is not None:
        return len(context.embedding)
    return len(context.data) if isinstance(context.data, list | tuple) else 1


def _one_each(generator: Generator | Sequence[Generator] | None, count: int) -> list[Generator] | None:
    if generator is None:
        return None
    generators = [generator] * count if isinstance(generator, Generator) else list(generator)
    if len(generators) != count:
        raise ValueError(f"{count} outputs need one generator, or {count}, got {len(generators)}.")
    return generators


def _rows(tensor: Tensor, groups: int, num_outputs: int, what: str) -> Tensor:
    """One row for each output, from one row for all or one for each item of the batch."""
    if len(tensor) not in (1, groups):
        raise ValueError(f"{what}: a batch of {groups} needs 1 or {groups} rows, got {len(tensor)}.")
    return tensor.expand(groups, *tensor.shape[1:]).repeat_interleave(num_outputs, dim=0)
