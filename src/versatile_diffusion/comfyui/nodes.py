"""The nodes; what takes long to import waits until one runs.

Their interface is ComfyUI's first one (INPUT_TYPES, RETURN_TYPES, FUNCTION), which all its releases know.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch

from versatile_diffusion.bundled import DEFAULT_MODEL
from versatile_diffusion.comfyui.host import own_device, watched
from versatile_diffusion.comfyui.sockets import MASK, read_masks, socket_of
from versatile_diffusion.comfyui.values import Contexts, Latents, LoadedModel, items_in, seeded
from versatile_diffusion.comfyui.widgets import Input, chosen_options, option_inputs
from versatile_diffusion.context import Context
from versatile_diffusion.devices import DTYPES, choose_device, choose_dtype
from versatile_diffusion.modalities.registry import modality_names, modality_spec
from versatile_diffusion.pipeline.request import Request
from versatile_diffusion.sampling.options import Sampling

MODEL, CONTEXT, LATENT = "VD_MODEL", "VD_CONTEXT", "VD_LATENT"
Inputs = dict[str, dict[str, Input]]


class _Node(ABC):
    """What all nodes say of themselves."""

    CATEGORY = "Versatile Diffusion"
    FUNCTION = "execute"
    DESCRIPTION: ClassVar[str]
    RETURN_TYPES: ClassVar[tuple[str, ...]]
    RETURN_NAMES: ClassVar[tuple[str, ...]]

    def execute(self, **inputs: Any) -> Any:
        """Calls `run`, outside of ComfyUI's inference mode: weights that are made in it could not be changed."""
        with torch.inference_mode(False), torch.no_grad():
            return self.run(**inputs)

    @abstractmethod
    def run(self, *args: Any, **inputs: Any) -> Any:
        """Returns the outputs of its inputs, or a mapping with these and what is shown on the node."""


class LoadNode(_Node):
    """Opens a model."""

    DESCRIPTION = "A bundled model by its name, a folder, a file, or a model of the hub."
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """See ComfyUI."""
        return {
            "required": {
                "source": ("STRING", {"default": DEFAULT_MODEL, "tooltip": cls.DESCRIPTION}),
                "dtype": (["auto", *DTYPES], {"tooltip": "Of the weights; auto is what suits the device."}),
                "device": (["auto", "cpu"], {"tooltip": "auto is the device that ComfyUI computes on."}),
            }
        }

    def run(self, source: str, dtype: str, device: str) -> tuple[LoadedModel]:
        """Returns the model, on its device."""
        from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline

        place = own_device() if device == "auto" else choose_device(device)
        pipe = VersatileDiffusionPipeline.from_pretrained(source.strip(), torch_dtype=choose_dtype(dtype, place))
        pipe.to(place)  # pyright: ignore[reportUnknownMemberType] - untyped in diffusers
        pipe.pack()
        return (LoadedModel(pipe),)


class LoraNode(_Node):
    """Adds a LoRA to a model."""

    DESCRIPTION = "A folder of vd train or vd distill, or a .safetensors file for Stable Diffusion v1."
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """See ComfyUI."""
        scale = {"default": 1.0, "min": -10.0, "max": 10.0, "step": 0.05, "tooltip": "How much of it."}
        return {
            "required": {
                "model": (MODEL, {}),
                "path": ("STRING", {"default": "", "tooltip": cls.DESCRIPTION}),
                "scale": ("FLOAT", scale),
            }
        }

    @classmethod
    def IS_CHANGED(cls, path: str, **inputs: object) -> object:
        """Another value where the file has changed."""
        return _stamp(path)

    def run(self, model: LoadedModel, path: str, scale: float) -> tuple[LoadedModel]:
        """Returns the model with the LoRA; the one that was given stays as it is."""
        file = Path(path.strip()).expanduser()
        if not path.strip() or not file.exists():
            raise ValueError(f"There is no LoRA {path!r}: give the path of a folder or a .safetensors file.")
        return (model.with_lora(file, scale),)


class ContextNode(_Node):
    """Data of a modality as a context."""

    RETURN_TYPES = (CONTEXT,)
    RETURN_NAMES = ("contexts",)
    modality: ClassVar[str]

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """See ComfyUI."""
        in_pixels = modality_spec(cls.modality).in_pixels
        mask: dict[str, Input] = {"mask": (MASK, {"tooltip": "What is 1 is seen, what is 0 is not."})}
        return {
            "required": {"data": _data_input(cls.modality)},
            "optional": _context_inputs(in_pixels) | (mask if in_pixels else {}),
        }

    def run(self, data: Any, mask: Any = None, **options: Any) -> tuple[Contexts]:
        """Returns the context, with as many items as the data has."""
        masks = None if mask is None else read_masks(mask)
        items = socket_of(self.modality).read(data)
        if masks is not None:
            masks = masks * len(items) if len(masks) == 1 else masks
        return ((Context(self.modality, items, mask=masks, **options),),)


class EmbeddingNode(_Node):
    """An embedding in a file as a context."""

    DESCRIPTION = "Context tokens (b n d) or (n d), the one array of a .safetensors, .npz or .npy file."
    RETURN_TYPES = (CONTEXT,)
    RETURN_NAMES = ("contexts",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """See ComfyUI."""
        return {
            "required": {
                "path": ("STRING", {"default": "", "tooltip": cls.DESCRIPTION}),
                "modality": (list(modality_names()), {"tooltip": "Of what it is an embedding."}),
            },
            "optional": _context_inputs(in_pixels=True),
        }

    @classmethod
    def IS_CHANGED(cls, path: str, **inputs: object) -> object:
        """Another value where the file has changed."""
        return _stamp(path)

    def run(self, path: str, modality: str, **options: Any) -> tuple[Contexts]:
        """Returns the context."""
        from versatile_diffusion.applications.embeddings import read_arrays

        arrays = list(read_arrays(Path(path.strip()).expanduser()).values())
        if len(arrays) != 1:
            raise ValueError(f"{path} holds {len(arrays)} arrays: keep one in it.")
        tokens = arrays[0] if arrays[0].ndim == 3 else arrays[0][None]
        return ((Context(modality, embedding=tokens, **options),),)


class MixNode(_Node):
    """Puts contexts together."""

    DESCRIPTION = "Contexts side by side; what each side weighs in the mixture is a matter of the ratio."
    RETURN_TYPES = (CONTEXT,)
    RETURN_NAMES = ("contexts",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """See ComfyUI."""
        weight: Input = "FLOAT", {"default": 1.0, "min": 0.0, "max": 1e6, "step": 0.05, "tooltip": "0 leaves it out."}
        contexts: Input = CONTEXT, {}
        return {"required": {"a": contexts, "b": contexts, "weight_a": weight, "weight_b": weight}}

    def run(self, a: Contexts, b: Contexts, weight_a: float, weight_b: float) -> tuple[Contexts]:
        """Returns the contexts of both, with their weights times those of their sides."""
        sides = ((a, weight_a), (b, weight_b))
        return (tuple(each.changed(weight=each.weight * weight) for side, weight in sides for each in side),)


class EncodeNode(_Node):
    """Data of a modality as latents to start from."""

    RETURN_TYPES = (LATENT,)
    RETURN_NAMES = ("latent",)
    modality: ClassVar[str]

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """See ComfyUI."""
        return {"required": {"model": (MODEL, {}), "data": _data_input(cls.modality)}}

    def run(self, model: LoadedModel, data: Any) -> tuple[Latents]:
        """Returns the latents, of data in the size that the model makes."""
        modality = model.pipe.modality(self.modality)
        items = modality.fit(modality.read(socket_of(self.modality).read(data)))
        return (Latents(model, self.modality, modality.encode(items)),)


class SampleNode(_Node):
    """Makes latents of contexts."""

    DESCRIPTION = "Makes outputs of any modality from contexts of any: decode what comes out."
    RETURN_TYPES = (LATENT,)
    RETURN_NAMES = ("latent",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """See ComfyUI."""
        seed = {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True}
        count = {"default": 1, "min": 1, "max": 64, "tooltip": "Outputs of each item; the next has the next seed."}
        inputs: Inputs = {
            "required": {
                "model": (MODEL, {}),
                "contexts": (CONTEXT, {}),
                "to": (list(modality_names()), {"tooltip": "What to make."}),
                "seed": ("INT", {**seed, "tooltip": "Of the first output."}),
                "num_outputs": ("INT", count),
            },
            "optional": {
                "negative": (CONTEXT, {"tooltip": "What to move away from."}),
                "start": (LATENT, {"tooltip": "What to start from, of the modality that is made; see strength."}),
                **option_inputs(Sampling),
            },
        }
        for name in modality_names():
            inputs["optional"] |= option_inputs(modality_spec(name).decoding)
        return inputs

    def run(
        self,
        model: LoadedModel,
        contexts: Contexts,
        to: str,
        seed: int,
        num_outputs: int,
        negative: Contexts = (),
        start: Latents | None = None,
        **inputs: Any,
    ) -> tuple[Latents]:
        """Returns the latents."""
        options = chosen_options(Sampling, inputs) | chosen_options(modality_spec(to).decoding, inputs)
        if start is not None:
            if start.modality != to:
                raise ValueError(f"The start is of modality {start.modality!r}, but {to!r} is made.")
            options["start"] = start.values
        request = Request.of(to, contexts, negative=negative, num_outputs=num_outputs, **options)
        generators = seeded(seed, items_in((*contexts, *negative), start) * num_outputs)
        with model.ready() as pipe:
            made = pipe.run(request, generator=generators, output_type="latent", on_step=watched())
        states = tuple(each.get_state() for each in generators)
        return (Latents(model, to, made.latents, request, states),)


class DecodeNode(_Node):
    """Data of latents."""

    modality: ClassVar[str]

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """See ComfyUI."""
        return {"required": {"latent": (LATENT, {})}}

    def run(self, latent: Latents) -> Any:
        """Returns the data; words are shown on the node, too."""
        if latent.modality != self.modality:
            raise ValueError(f"The latent is of modality {latent.modality!r}: decode it as that.")
        socket = socket_of(self.modality)
        options = dict[str, object]() if latent.request is None else latent.request.decoding
        made = latent.model.pipe.decode(
            self.modality, latent.values, socket.output_type, generator=latent.generators(), **options
        )
        shown = socket.show(made)
        return {"ui": {"text": shown}, "result": (shown,)} if modality_spec(self.modality).codec.inline else (shown,)


def _data_input(modality: str) -> Input:
    return socket_of(modality).type, {"multiline": True} if modality_spec(modality).codec.inline else {}


def _context_inputs(in_pixels: bool) -> dict[str, Input]:
    """What else is said of a context; what is seen of it has a focus."""
    shown = {"weight", "focus"} if in_pixels else {"weight"}
    unconditional = {"default": "default", "tooltip": Context.model_fields["unconditional"].description}
    return {
        **option_inputs(Context, Context.model_fields.keys() - shown),
        "unconditional": (["default", "zeros"], unconditional),
    }


def _of_modality(base: type[_Node], name: str, describe: str, **more: object) -> type[_Node]:
    """A node that is there for each modality."""
    return type(f"{name.capitalize()}{base.__name__}", (base,), {"modality": name, "DESCRIPTION": describe, **more})


def _decode_node(name: str) -> type[_Node]:
    socket, inline = socket_of(name), modality_spec(name).codec.inline
    return _of_modality(
        DecodeNode,
        name,
        f"The {name} of latents.",
        RETURN_TYPES=(socket.type,),
        RETURN_NAMES=(name,),
        OUTPUT_IS_LIST=(socket.is_list,),
        OUTPUT_NODE=inline,
    )


def _stamp(path: str) -> object:
    """What changes with a file, or with what lies in a folder."""
    place = Path(path.strip()).expanduser()
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    return [(str(file), file.stat().st_mtime) for file in files if file.exists()]


def _all_nodes() -> dict[str, tuple[str, type[_Node]]]:
    """The nodes by their identifiers, each with the name that is shown."""
    nodes: dict[str, tuple[str, type[_Node]]] = {
        "Load": ("Load model", LoadNode),
        "LoRA": ("LoRA", LoraNode),
        "Embedding": ("Context from embedding", EmbeddingNode),
        "Mix": ("Mix contexts", MixNode),
        "Sample": ("Sample", SampleNode),
    }
    each: tuple[tuple[str, str, Callable[[str], type[_Node]]], ...] = (
        ("Context", "Context from {}", lambda name: _of_modality(ContextNode, name, f"The {name} as a context.")),
        ("Encode", "Encode {}", lambda name: _of_modality(EncodeNode, name, f"The {name} as latents to start from.")),
        ("Decode", "Decode {}", _decode_node),
    )
    for name in modality_names():
        nodes |= {f"{kind}{name.capitalize()}": (shown.format(name), make(name)) for kind, shown, make in each}
    return nodes


NODE_CLASS_MAPPINGS = {f"VersatileDiffusion{key}": node for key, (_, node) in _all_nodes().items()}
NODE_DISPLAY_NAME_MAPPINGS = {f"VersatileDiffusion{key}": f"VD {shown}" for key, (shown, _) in _all_nodes().items()}
