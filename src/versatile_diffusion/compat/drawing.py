"""What the flows of diffusers' pipelines share: everything after the contexts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any, ParamSpec

import torch
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor  # pyright: ignore[reportUnknownVariableType] - it is not typed
from torch import Generator, Tensor

from versatile_diffusion.arrays import as_tensor
from versatile_diffusion.compat.encoding import Pair
from versatile_diffusion.sampling.guidance import Guidance, guided_denoiser
from versatile_diffusion.sampling.sampler import Schedule, Step, sample

Callback = Callable[[int, Any, Tensor], None]
Generators = Generator | list[Generator] | None
Result = ImagePipelineOutput | tuple[Any]
P = ParamSpec("P")


@dataclass(frozen=True)
class Options:
    """The arguments that all flows take, under the names of diffusers."""

    height: int | None
    width: int | None
    num_inference_steps: int
    guidance_scale: float
    eta: float
    generator: Generators
    latents: object
    output_type: str | None
    return_dict: bool
    callback: Callback | None
    callback_steps: int

    def sides(self, pipe: Any) -> tuple[int, int]:
        """Height and width of the pictures in pixels, by default those that the U-Net was trained with.

        Raises:
            ValueError: if they, or the steps between callbacks, are not usable.
        """
        default: int = pipe.image_unet.config["sample_size"] * pipe.vae_scale_factor
        height, width = self.height or default, self.width or default
        if height % 8 or width % 8:
            raise ValueError(f"`height` and `width` have to be divisible by 8 but are {height} and {width}.")
        steps = self.callback_steps
        is_number = isinstance(steps, int)  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
        if not is_number or steps <= 0:
            raise ValueError(f"`callback_steps` has to be a positive integer but is {steps!r}.")
        return height, width


def draws_pictures(encode: Callable[P, list[Pair]]) -> Callable[P, Result]:
    """A flow, of the function that encodes its contexts.

    Args:
        encode: takes a pipeline and all arguments of the flow, those of `Options` among them, and returns the contexts.
            Its signature, its defaults and its docstring become the flow's.
    """
    signature = inspect.signature(encode)

    @wraps(encode)
    @torch.no_grad()
    def flow(*args: P.args, **kwargs: P.kwargs) -> Result:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        options = Options(**{field.name: given.arguments[field.name] for field in fields(Options)})
        pipe = given.arguments["self"]
        sides = options.sides(pipe)
        return _draw(pipe, encode(*args, **kwargs), sides, options)

    vars(flow)["__signature__"] = signature.replace(return_annotation="Result")
    return flow


def _draw(pipe: Any, contexts: list[Pair], sides: tuple[int, int], options: Options) -> Result:
    """Pictures of encoded contexts."""
    conditional, unconditional = [given for given, _ in contexts], [nothing for _, nothing in contexts if nothing]
    guidance = Guidance(options.guidance_scale if unconditional else 1.0)
    schedule = Schedule.plan(pipe.scheduler, options.num_inference_steps, device=pipe._execution_device)
    first = _noise(pipe, conditional[0].tokens, sides, options)
    _free_encoders(pipe)
    denoise = guided_denoiser(pipe.image_unet.brought(), "image", conditional, unconditional, guidance)
    with pipe.progress_bar(total=len(schedule.timesteps)) as bar:

        def on_step(step: Step) -> None:
            bar.update()
            if options.callback is not None and (step.number - 1) % options.callback_steps == 0:
                options.callback((step.number - 1) // pipe.scheduler.order, step.timestep, step.latents)

        # one generator draws for the whole batch at once, as in diffusers
        generators = [options.generator] if isinstance(options.generator, Generator) else options.generator
        made = sample(denoise, first, schedule, generators=generators, eta=options.eta, on_step=on_step)
    if options.output_type != "latent":
        made = pipe.vae.decode(made / pipe.vae.config["scaling_factor"], return_dict=False)[0]
    images = pipe.image_processor.postprocess(made, output_type=options.output_type)
    pipe.maybe_free_model_hooks()
    return ImagePipelineOutput(images=images) if options.return_dict else (images,)


def _free_encoders(pipe: Any) -> None:
    """Takes the encoders off the accelerator, if modules are moved.

    The hooks would only do so for the one that comes before the diffuser in the sequence, used or not.
    """
    for hook in getattr(pipe, "_all_hooks", ()):
        hook.offload()


def _noise(pipe: Any, tokens: Tensor, sides: tuple[int, int], options: Options) -> Tensor:
    """The noise to start from (b c h w): what was given, or drawn in the type of the context tokens."""
    batch, generator = len(tokens), options.generator
    if isinstance(generator, list) and len(generator) != batch:
        raise ValueError(f"{batch} pictures need one generator, or {batch}, got a list of {len(generator)}.")
    if options.latents is not None:
        return as_tensor(options.latents, "latents").to(pipe._execution_device)
    shape = (batch, pipe.image_unet.config["in_channels"], *(side // pipe.vae_scale_factor for side in sides))
    return randn_tensor(shape, generator, pipe._execution_device, tokens.dtype)
