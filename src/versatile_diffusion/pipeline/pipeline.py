"""The pipeline: encode the contexts, sample, decode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from versatile_diffusion.context import Context
from versatile_diffusion.diffuser.model import ContextTokens, Diffuser
from versatile_diffusion.flows import Flow
from versatile_diffusion.kernels.quantization import WithQuantization
from versatile_diffusion.modalities.base import Modality
from versatile_diffusion.pipeline.acceleration import WithAcceleration
from versatile_diffusion.pipeline.conditioning import Batch, Conditioner, of_rows, read_items, used_contexts
from versatile_diffusion.pipeline.initial_latents import encode_start, noise, one_each
from versatile_diffusion.pipeline.lora import WithLoras
from versatile_diffusion.pipeline.named_flows import NamedFlows
from versatile_diffusion.pipeline.offloading import WithOffloading
from versatile_diffusion.pipeline.outputs import Origin, Outputs, check_options, check_output_type
from versatile_diffusion.sampling.guidance import Guidance, guided_denoiser
from versatile_diffusion.sampling.sampler import Denoiser, Rows, Schedule, StepCallback, sample
from versatile_diffusion.sampling.schedulers import chosen_scheduler

if TYPE_CHECKING:
    from versatile_diffusion.checkpoints import Components

CallbackOnStepEnd = Callable[["VersatileDiffusionPipeline", int, Tensor, dict[str, Tensor]], dict[str, Any] | None]


class Modalities(nn.ModuleDict):
    """Modalities by name, as one component of the pipeline."""

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """What they compute in."""
        return next((parameter.dtype for parameter in self.parameters()), torch.get_default_dtype())


class VersatileDiffusionPipeline(NamedFlows, WithLoras, WithQuantization, WithAcceleration, WithOffloading):
    """Makes any modality from any modalities (paper, figure 1). `generate` is what the named flows call.

    Args:
        diffuser: predicts the noise.
        scheduler: any diffusers scheduler for noise prediction; may be replaced at any time.
        modalities: by name.
    """

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
            torch_dtype: of the weights; by default as they were saved, but float32 instead of float16, which few CPUs
                compute with.
            flows: names such as "text-to-image" or "image-variation": only what these need is read. None is all.
            options: see `checkpoints.open_source`.

        Raises:
            ValueError: if there is no such flow.
            CheckpointError: if the source is unknown, incomplete or damaged; the message says what to do.
        """
        from versatile_diffusion.checkpoints import open_source

        names = [flows] if isinstance(flows, str) else flows
        if names is not None and not names:
            raise ValueError("flows is empty: name one at least, or leave it out to load all.")
        wanted = None if names is None else [Flow.parse(name) for name in names]
        parts = open_source(source, flows=wanted, torch_dtype=torch_dtype, **options)
        if torch_dtype is None:
            for module in (parts.diffuser, *parts.modalities.values()):
                if module.dtype == torch.float16:
                    module.float()
        return cls(parts.diffuser, parts.scheduler, parts.modalities)

    def save_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, save_directory: str | Path, push_to_hub: bool = False, **options: Any
    ) -> None:
        """Saves to a folder that `from_pretrained` opens, whole or not at all.

        Args:
            save_directory: the folder.
            push_to_hub: whether to upload the folder, too.
            options: for the upload: repo_id, private, token, commit_message.

        Raises:
            ValueError: if the diffuser holds LoRAs; the message says what to do.
            FileExistsError, OSError: see `checkpoints.save`.
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

        return Components(diffuser=self.diffuser, modalities=self._modalities, scheduler=self.scheduler)

    @torch.no_grad()
    def generate(
        self,
        to: str,
        contexts: Context | Sequence[Context],
        *,
        num_outputs: int = 1,
        num_inference_steps: int = 50,
        guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        negative: Context | Sequence[Context] | None = None,
        start: Any = None,
        strength: float = 1.0,
        latents: Float[Tensor, "b *latent"] | None = None,
        height: int | None = None,
        width: int | None = None,
        eta: float = 0.0,
        scheduler: Any = None,
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
            guidance_scale: 1 is no guidance; by default what suits the model, which is 7.5 for the official ones.
            guidance_interval: see `Guidance`.
            negative: contexts to move away from, instead of the unconditional of that modality.
            start: data of modality `to`, or its latents (b *latent), to start from.
            strength: 1 forgets the start, 0 keeps it.
            latents: noise to start from instead of drawing it.
            height: of the outputs, in pixels; a start is stretched to it.
            width: of the outputs, in pixels; a start is stretched to it.
            eta: how much variance DDIM draws anew.
            scheduler: of diffusers, or one of `schedulers.SCHEDULERS` by its name; by default the pipeline's.
            generator: one for all outputs, or one for each. An output depends on its generator alone, not on its batch.
            output_type: "pil", "pt", "np" or "latent".
            callback_on_step_end: called as (pipeline, step, timestep, {"latents": …}) after each step; may return a
                dictionary with other "latents", and with "rows", the numbers of the outputs that go on: the others are
                computed no further, and come out unfinished. Setting `pipeline._interrupt = True` in it stops all.
            decoding: options of the modality's `decode`, such as temperature for texts.

        Raises:
            ValueError, TypeError: if an argument is not usable; the message says what would be.
        """
        arguments = {name: value for name, value in locals().items() if name not in ("self", "decoding")} | decoding
        self._check_output(to, output_type, decoding)
        scheduler = chosen_scheduler(scheduler, self.scheduler)
        scale = self._modalities[to].guidance_scale if guidance_scale is None else guidance_scale
        guidance = Guidance(scale, guidance_interval, scheduler.config.num_train_timesteps)
        device, dtype = self._execution_device, self.diffuser.dtype

        conditional, unconditional = self._encode_contexts(to, contexts, negative, guidance)
        if start is None and strength != 1:
            raise ValueError(f"A strength of {strength} needs a start: give one, or leave strength at 1.")
        begin = None if start is None else encode_start(self.modality(to), start, height, width)
        batch = Batch.of([*conditional, *unconditional], begin, num_outputs)
        generators = one_each(generator, len(batch))
        self._modalities[to].check_decoding(len(batch), **decoding)
        shape = self._modalities[to].latent_shape(height, width) if begin is None else begin.shape[1:]
        first = noise((len(batch), *shape), latents, generators, device)

        conditional, unconditional = (batch.tokens(each, device, dtype) for each in (conditional, unconditional))
        self._put_modalities_away()

        def denoiser(rows: Sequence[int]) -> Denoiser:
            with_context, without = (of_rows(each, rows) for each in (conditional, unconditional))
            return guided_denoiser(self.diffuser, to, with_context, without, guidance)

        rows = Rows(len(batch), denoiser)
        schedule = Schedule.plan(scheduler, num_inference_steps, strength, device)
        with self._steps(len(schedule.timesteps), rows, callback_on_step_end) as on_step:
            result = sample(
                rows,
                first,
                schedule,
                start=None if begin is None or strength == 1 else batch.rows(begin.to(device, torch.float32)),
                generators=generators,
                eta=eta,
                on_step=on_step,
            )

        items = result if output_type == "latent" else self._decode(to, result, output_type, generators, decoding)
        self._put_modalities_away()
        self.maybe_free_model_hooks()
        arguments["guidance_scale"] = scale
        origins = tuple(Origin(arguments, batch.items, num_outputs, row) for row in range(len(batch)))
        return Outputs(to, items, result, num_outputs, origins)

    def modality(self, name: str) -> Modality:
        """A modality, on the device that it computes on. Raises ValueError if the model does not know it."""
        if name not in self.modalities:
            raise ValueError(f"This model knows {' and '.join(self.modalities)}, not {name!r}.")
        self._bring_modalities()
        return self._modalities[name]

    @torch.no_grad()
    def encode_context(self, modality: str, data: Any, mask: Any = None) -> Float[Tensor, "b n d"]:
        """Context tokens of data, of what the mask keeps of it."""
        bound = self.modality(modality)
        return bound.embed(read_items(bound, data), masks=mask)

    @torch.no_grad()
    def encode(self, modality: str, data: Any) -> Float[Tensor, "b *latent"]:
        """Latents of data, in the diffuser's scale."""
        bound = self.modality(modality)
        return bound.encode(read_items(bound, data))

    @torch.no_grad()
    def decode(
        self,
        modality: str,
        latent: Float[Tensor, "b *latent"],
        output_type: str = "pil",
        *,
        generator: Generator | Sequence[Generator] | None = None,
        **options: Any,
    ) -> Any:
        """Data of latents, drawn from one generator or one for each. The options are the modality's of `decode`."""
        return self._decode(modality, latent, output_type, one_each(generator, len(latent)), options)

    # ---- details ----

    @property
    def _modalities(self) -> dict[str, Modality]:
        return dict(self.modalities.items())  # pyright: ignore[reportReturnType]

    def _check_output(self, to: str, output_type: str, decoding: Mapping[str, Any]) -> None:
        """Finds before sampling what would fail after it."""
        made = list(self.diffuser.data_layers)
        if to not in made:
            raise ValueError(
                f"This model makes {' and '.join(made)}, not {to!r}. If that was left out in loading, load the model "
                f"with a flow such as '…-to-{to}', or with all flows."
            )
        check_output_type(output_type)
        check_options(self._modalities[to], decoding)

    def _encode_contexts(
        self,
        to: str,
        contexts: Context | Sequence[Context],
        negative: Context | Sequence[Context] | None,
        guidance: Guidance,
    ) -> tuple[list[ContextTokens], list[ContextTokens]]:
        """Tokens of the contexts and, if they are ever needed, of no contexts."""
        used = used_contexts(contexts)
        conditioner = Conditioner(self.modality, self.diffuser.config["context_dims"])
        conditional = conditioner.conditional(used)
        if guidance.scale == 1:
            return conditional, []
        return conditional, conditioner.unconditional(to, used, conditional, negative)

    def _decode(
        self,
        to: str,
        latents: Float[Tensor, "b *latent"],
        output_type: str,
        generators: Sequence[Generator] | None,
        options: Mapping[str, Any],
    ) -> Any:
        modality = self.modality(to)
        return modality.present(modality.decode(latents, generators, **options), output_type)

    @contextmanager
    def _steps(self, total: int, rows: Rows, callback: CallbackOnStepEnd | None) -> Iterator[StepCallback]:
        """Shows the progress, calls the user's function after each step, and does what it asks for."""
        self._interrupt = False
        with self.progress_bar(total=total) as bar:  # pyright: ignore[reportAttributeAccessIssue]

            def on_step(step: int, timestep: Tensor, latents: Tensor) -> tuple[Tensor, bool]:
                bar.update()
                changed = (callback(self, step, timestep, {"latents": latents}) if callback is not None else None) or {}
                rows.keep(changed.get("rows", rows.going))
                return changed.get("latents", latents), bool(rows.going) and not self._interrupt

            yield on_step
