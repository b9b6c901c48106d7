"""The pipeline: encode the contexts, sample, decode."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Generator as Steps
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from versatile_diffusion.context import Context
from versatile_diffusion.diffuser.model import ContextTokens, Diffuser
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.base import Modality
from versatile_diffusion.pipeline.calls import Call, Calls
from versatile_diffusion.pipeline.conditioning import Batch, Conditioner, of_rows, read_items, used_contexts
from versatile_diffusion.pipeline.initial_latents import check_generator, encode_start, noise, one_each, read_start
from versatile_diffusion.pipeline.model import ModelPipeline
from versatile_diffusion.pipeline.offloading import bring_modalities, put_away
from versatile_diffusion.pipeline.outputs import Origin, Outputs, check_output_type
from versatile_diffusion.pipeline.request import Request
from versatile_diffusion.sampling.few_steps import resolved
from versatile_diffusion.sampling.guidance import Guidance, guided_denoiser
from versatile_diffusion.sampling.options import PresetName
from versatile_diffusion.sampling.sampler import Denoiser, OnStep, Rows, Schedule, Step, StepChange, sample
from versatile_diffusion.sampling.schedulers import check_scheduler, chosen_scheduler

CallbackOnStepEnd = Callable[["FlowPipeline", int, Tensor, dict[str, Tensor]], Mapping[str, Any] | None]


class FlowPipeline(ModelPipeline):
    """Makes any modality from any modalities (paper, figure 1): `generate` says what, `run` does it."""

    def __init__(self, diffuser: Diffuser, scheduler: Any, modalities: Mapping[str, Modality]) -> None:
        super().__init__(diffuser, scheduler, modalities)
        self._calls = Calls()

    def __getattr__(self, name: str) -> Any:
        """Short ways to call `generate` that have the names of flows, such as `text_to_sound` and `sound_variation`."""
        held = self.__dict__.get("modalities")
        flow = None if held is None or name.startswith("_") else Flow.of_method(name, list(held))
        return super().__getattr__(name) if flow is None else partial(self._generate_flow, flow)

    # ---- generating ----

    def generate(
        self,
        to: str,
        contexts: Context | Sequence[Context] | str,
        *,
        generator: Generator | Sequence[Generator] | None = None,
        scheduler: Any = None,
        output_type: str = "pil",
        callback_on_step_end: CallbackOnStepEnd | None = None,
        **options: Any,
    ) -> Outputs:
        """Makes outputs of one modality from contexts of any.

        Args:
            to: modality to make.
            contexts: what to condition on; each holds one item or a batch. A text alone is a context as well, here and
                as the option `negative`.
            generator: one for all outputs, or one for each. An output depends on its generator alone, not on its batch.
            scheduler: of diffusers, or one of `schedulers.SCHEDULERS` by its name; by default the pipeline's.
            output_type: "pil", "pt", "np" or "latent".
            callback_on_step_end: called as (pipeline, step, timestep, {"latents": …}) after each step; may return a
                dictionary with other "latents", and with "rows", the numbers of the outputs that go on: the others are
                computed no further, and left out. Setting `pipeline._interrupt = True` in it stops this call; set from
                another thread, it stops all calls that are under way.
            options: the fields of `Request`, such as num_outputs, negative, start and latents; among them those of
                `Sampling`, such as num_inference_steps, guidance_scale, strength, eta, height and width; and options of
                the modality's `decode`, such as temperature for texts.

        Raises:
            ValueError, TypeError: if an argument is not usable; the message says what would be.
        """
        named = scheduler if isinstance(scheduler, str) else None
        request = Request.of(to, contexts, scheduler=named, **options)
        callback = callback_on_step_end
        return self.run(
            request,
            generator=generator,
            scheduler=None if named else scheduler,
            output_type=output_type,
            on_step=None if callback is None else lambda step: _answer(callback(self, *_told(step))),
        )

    @torch.no_grad()
    def run(
        self,
        request: Request,
        *,
        generator: Generator | Sequence[Generator] | None = None,
        scheduler: Any = None,
        output_type: str = "pil",
        on_step: OnStep | None = None,
    ) -> Outputs:
        """Makes what a request asks for: encodes its contexts, samples, and decodes the outputs that remain.

        Args:
            request: what to make, and how.
            generator: one for all outputs, or one for each; by default made from the request's seeds, on the CPU, so
                that every device gives the same outputs.
            scheduler: of diffusers, instead of the one that the request names.
            output_type: "pil", "pt", "np" or "latent".
            on_step: called after each step; what it answers is done.

        Raises:
            ValueError, TypeError: if the request cannot be fulfilled; the message says what could be.
        """
        request = self._resolved(request, scheduler)
        to, modality = request.to, self._made(request, output_type)
        extent = modality.extent(request.height, request.width, request.decoding)
        start = read_start(request.start, modality.latent_shape(*extent))
        request = request.model_copy(update={"start": start})  # as records hold it
        diffuser, chosen = self._sampled_by(request, scheduler)
        check_scheduler(chosen)
        check_generator(generator)
        scale = modality.guidance_scale if request.guidance_scale is None else request.guidance_scale
        guidance = Guidance.of(request, scale, chosen.config.num_train_timesteps)
        device, dtype = self._execution_device, diffuser.dtype

        conditional, unconditional = self._encode_contexts(request, guidance)
        begin = self._encode_start(request, extent)
        batch = Batch.of([*conditional, *unconditional], begin, request.num_outputs)
        generators = one_each(_from_seeds(request) if generator is None else generator, len(batch))
        modality.check_decoding(len(batch), **request.decoding)
        shape = modality.latent_shape(*extent) if begin is None else begin.shape[1:]
        _warn_of_size(modality, request)
        seeds = None if scheduler is not None else _seeds(generators)  # before they draw
        first = noise((len(batch), *shape), request.latents, generators, device)
        conditional, unconditional = (batch.tokens(each, device, dtype) for each in (conditional, unconditional))
        put_away(self.modalities)

        def denoiser(rows: Sequence[int]) -> Denoiser:
            with_context, without = (of_rows(each, rows) for each in (conditional, unconditional))
            return guided_denoiser(diffuser, to, with_context, without, guidance)

        rows = Rows(len(batch), denoiser)
        assert request.num_inference_steps is not None  # as it is resolved
        schedule = Schedule.plan(chosen, request.num_inference_steps, request.strength, device)
        with self._calls.begun() as call, self._shown(len(schedule.timesteps), call, on_step) as after_step:
            latents = sample(
                rows,
                first,
                schedule,
                start=None if begin is None or request.strength == 1 else batch.rows(begin.to(device, torch.float32)),
                generators=generators,
                eta=request.eta,
                on_step=after_step,
            )

        items = self._decode_going(request, latents, rows.going, output_type, generators)
        put_away(self.modalities)
        self.maybe_free_model_hooks()
        whole = request.model_copy(update={"guidance_scale": scale, "seeds": seeds})
        origins = (Origin(whole, batch.items, row, tuple(rows.remainders)) for row in rows.going)
        return Outputs(to, items, latents, request.num_outputs, tuple(origins))

    # ---- parts of it ----

    def modality(self, name: str) -> Modality:
        """Returns a modality, on the device that it computes on. Raises ValueError if the model does not know it."""
        modality = self.modalities.named(name)
        bring_modalities(self.modalities, self.diffuser)
        return modality

    @torch.no_grad()
    def encode_context(self, modality: str, data: object, mask: object = None) -> Float[Tensor, "b n d"]:
        """Returns context tokens of data, of what the mask keeps of it."""
        bound = self.modality(modality)
        return bound.embed(read_items(bound, data), masks=mask)

    @torch.no_grad()
    def encode(self, modality: str, data: object) -> Float[Tensor, "b *latent"]:
        """Returns latents of data, in the diffuser's scale."""
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

    def _generate_flow(self, flow: Flow, data: object, **options: Any) -> Outputs:
        return self.generate(flow.output, [Context(flow.context, data)], **options)

    @property
    def _interrupt(self) -> bool:  # the name is diffusers'
        return self._calls.interrupted

    @_interrupt.setter
    def _interrupt(self, value: bool) -> None:
        self._calls.interrupt(value)

    def _resolved(self, request: Request, scheduler: Any) -> Request:
        """A request with what its preset, or the pipeline's, stands for."""
        if scheduler is not None:
            return resolved(request, None)
        if request.preset is None and request.scheduler is None and self.preset is not None:
            request = request.replaced(preset=self.preset)
        return resolved(request, self.few_steps)

    def _sampled_by(self, request: Request, scheduler: Any) -> tuple[Diffuser, Any]:
        """The diffuser and the scheduler of a request that is resolved."""
        lora = self.few_step_lora
        if request.preset is PresetName.FAST and lora is not None:
            name = request.scheduler or lora.how.scheduler
            return lora.applied_to(self.diffuser), lora.scheduler(name, self.scheduler)
        chosen = chosen_scheduler(request.scheduler, self.scheduler) if scheduler is None else scheduler
        return self.diffuser, chosen

    def _made(self, request: Request, output_type: str) -> Modality:
        """The modality that is asked for. Finds before sampling what would fail after it."""
        made = list(self.diffuser.data_layers)
        if request.to not in made:
            raise ValueError(
                f"This model makes {' and '.join(made)}, not {request.to!r}. If that was left out in loading, load the "
                f"model with a flow such as '…-to-{request.to}', or with all flows."
            )
        check_output_type(output_type)
        self.modalities[request.to].decoding_options(request.decoding)
        return self.modalities[request.to]

    def _encode_contexts(self, request: Request, guidance: Guidance) -> tuple[list[ContextTokens], list[ContextTokens]]:
        """Tokens of the contexts and, if they are ever needed, of no contexts."""
        used = used_contexts(request.contexts)
        conditioner = Conditioner(self.modality, self.diffuser.config["context_dims"])
        conditional = conditioner.conditional(used)
        if guidance.scale == 1:
            return conditional, []
        return conditional, conditioner.unconditional(request.to, used, conditional, request.negative)

    def _encode_start(
        self, request: Request, extent: tuple[int | None, int | None]
    ) -> Float[Tensor, "b *latent"] | None:
        if request.start is not None:
            return encode_start(self.modality(request.to), request.start, *extent)
        if request.strength != 1:
            raise ValueError(f"A strength of {request.strength} needs a start: give one, or leave strength at 1.")
        return None

    def _decode_going(
        self,
        request: Request,
        latents: Float[Tensor, "b *latent"],
        going: Sequence[int],
        output_type: str,
        generators: Sequence[Generator] | None,
    ) -> Any:
        """Data of the latents that were computed to the end, which may be all; or these latents themselves."""
        kept = latents[going] if len(going) < len(latents) else latents
        if output_type == "latent":
            return kept
        drawn = None if generators is None else [generators[row] for row in going]
        return self._decode(request.to, kept, output_type, drawn, _of_going(request.decoding, going, len(latents)))

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
    def _shown(self, total: int, call: Call, on_step: OnStep | None) -> Steps[OnStep, None, None]:
        """Shows the progress, and tells of each step until the call is interrupted."""
        progress_bar: Any = getattr(self, "progress_bar")  # noqa: B009 - diffusers leaves it untyped
        with progress_bar(total=total) as bar:

            def after_step(step: Step) -> StepChange | None:
                bar.update()
                change = None if on_step is None else on_step(step)
                if not call.interrupted:
                    return change
                return StepChange(stop=True) if change is None else replace(change, stop=True)

            yield after_step


def _warn_of_size(modality: Modality, request: Request) -> None:
    """Warns if the outputs are far larger than what the model was trained at."""
    beyond = None if modality.sizes is None else modality.sizes.far_beyond(request.height, request.width)
    if beyond is not None:
        warnings.warn(beyond, UserWarning, stacklevel=3)


def _told(step: Step) -> tuple[int, Tensor, dict[str, Tensor]]:
    """A step as diffusers tells of it: its number from 0, its timestep, and the latents."""
    return step.number - 1, step.timestep, {"latents": step.latents}


def _answer(changed: Mapping[str, Any] | None) -> StepChange | None:
    return None if changed is None else StepChange(changed.get("latents"), changed.get("rows"))


def _from_seeds(request: Request) -> list[Generator] | None:
    return None if request.seeds is None else [Generator().manual_seed(seed) for seed in request.seeds]


def _seeds(generators: Sequence[Generator] | None) -> tuple[int, ...] | None:
    """The seed of each output's generator; None unless each has one of its own that drew nothing yet."""
    if generators is None or len({id(each) for each in generators}) < len(generators):
        return None
    fresh = (Generator(each.device).manual_seed(each.initial_seed()) for each in generators)
    same = all(torch.equal(each.get_state(), new.get_state()) for each, new in zip(generators, fresh, strict=True))
    return tuple(each.initial_seed() for each in generators) if same else None


def _of_going(decoding: Mapping[str, object], going: Sequence[int], total: int) -> dict[str, object]:
    """Options of decoding for the rows that go on: a list has a value for each of as many outputs in a row."""
    return {
        name: _of_rows(cast("Sequence[object]", value), going, total) if isinstance(value, list | tuple) else value
        for name, value in decoding.items()
    }


def _of_rows(values: Sequence[object], going: Sequence[int], total: int) -> list[object]:
    if len(going) == total or not values:
        return list(values)
    return [values[row * len(values) // total] for row in going]
