"""A model as a pipeline holds it: opened, saved, moved, adapted and made quicker, as a whole."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import nn

from versatile_diffusion import kernels
from versatile_diffusion.diffuser.model import Diffuser
from versatile_diffusion.flows import Flow
from versatile_diffusion.kernels.quantization import context_encoders, quantize_parts
from versatile_diffusion.modalities.base import Modality
from versatile_diffusion.modalities.collection import Modalities
from versatile_diffusion.pipeline import lora, offloading
from versatile_diffusion.pipeline.acceleration import compile_blocks, optimizable
from versatile_diffusion.pipeline.few_step_lora import FewStepLora
from versatile_diffusion.pipeline.openvino import OPENVINO, OpenVinoForward
from versatile_diffusion.sampling.few_steps import FewSteps
from versatile_diffusion.sampling.options import PresetName

if TYPE_CHECKING:
    from versatile_diffusion.checkpoints import Components

_FORMER_NAMES = {
    "loras": "adapters",
    "set_loras": "set_adapters",
    "merge_loras": "fuse_lora",
    "unmerge_loras": "unfuse_lora",
    "unload_loras": "unload_lora",
    "bake_loras": "fuse_and_unload_lora",
}


class ModelPipeline(DiffusionPipeline):
    """A diffuser, the modalities that it makes and takes, and a scheduler.

    `enable_model_cpu_offload`, which is diffusers', brings the modalities or the diffuser to the accelerator, one at a
    time.

    Args:
        diffuser: predicts the noise.
        scheduler: any scheduler of `schedulers.USABLE`; may be replaced at any time.
        modalities: by name.

    Attributes:
        preset: how calls sample that name neither a preset nor a scheduler; None is the official way.
        few_step_lora: with which the preset fast samples; see `load_lora`.
    """

    model_cpu_offload_seq = "modalities->diffuser"
    _exclude_from_cpu_offload = ["modalities"]  # noqa: RUF012 - from moving layer by layer; the type that diffusers reads

    def __init__(self, diffuser: Diffuser, scheduler: Any, modalities: Mapping[str, Modality]) -> None:
        super().__init__()
        parts = {"diffuser": diffuser, "scheduler": scheduler, "modalities": Modalities(modalities)}
        self.register_modules(**parts)  # pyright: ignore[reportUnknownMemberType] - typed in part
        self.diffuser: Diffuser
        self.scheduler: Any
        self.modalities: Modalities
        self.preset: PresetName | str | None = None
        self.few_step_lora: FewStepLora | None = None
        self._own_few_step_lora: FewStepLora | None = None

    def __getattr__(self, name: str) -> Any:
        if name not in _FORMER_NAMES:
            return super().__getattr__(name)
        present = _FORMER_NAMES[name]
        warnings.warn(f"`{name}` is called `{present}` now.", DeprecationWarning, stacklevel=2)
        return getattr(self, present)

    # ---- opening and saving ----

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride] - it opens more, and needs less
        cls,
        source: str | Path,
        torch_dtype: torch.dtype | str | None = None,
        flows: Sequence[str] | None = None,
        *,
        dtype: torch.dtype | str | None = None,
        modalities: Sequence[type[Modality]] = (),
        **options: Any,
    ) -> Self:
        """Opens a model.

        Args:
            source: the name of a bundled model, a hub id, a saved folder (ours or diffusers'), a folder of official
                .pth files, any file of these, or Stable Diffusion v1 as one file.
            torch_dtype: of the weights, or its name; by default as they were saved, but float32 instead of float16,
                which few CPUs compute with.
            flows: names such as "text-to-image" or "image-variation": only what these need is read. None is all.
            dtype: the newer name of torch_dtype.
            modalities: classes of modalities that folders of ours have, instead of those that are registered.
            options: those of diffusers: see `opening.OpeningOptions`. What is not done here is refused by name.

        Raises:
            ValueError: if there is no such flow, or an option asks for what is not done here.
            TypeError: if there is no such option.
            CheckpointError: if the source is unknown, incomplete or damaged; the message says what to do.
        """
        from versatile_diffusion.checkpoints import open_source
        from versatile_diffusion.checkpoints.lora_files import few_steps_of
        from versatile_diffusion.pipeline.opening import OpeningOptions, as_dtype

        names = [flows] if isinstance(flows, str) else flows
        if names is not None and not names:
            raise ValueError("flows is empty: name one at least, or leave it out to load all.")
        wanted = None if names is None else [Flow.parse(name) for name in names]
        chosen, number = OpeningOptions.of(options), as_dtype(dtype if torch_dtype is None else torch_dtype)
        device = chosen.device
        parts = open_source(source, wanted, number, modalities, chosen.files)
        if number is None:
            for module in (parts.diffuser, *parts.modalities.values()):
                if module.dtype == torch.float16:
                    module.float()  # pyright: ignore[reportUnknownMemberType] - wrapped by diffusers
        pipe = cls(parts.diffuser, chosen.scheduler or parts.scheduler, parts.modalities)
        if parts.few_steps is not None and (how := few_steps_of(parts.few_steps)) is not None:
            pipe.few_step_lora = pipe._own_few_step_lora = FewStepLora(parts.few_steps, how)
        return pipe if device is None else pipe.to(device)  # pyright: ignore[reportUnknownMemberType] - untyped in diffusers

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **parts: Any) -> Self:
        """Returns another pipeline on the same model, which takes no more memory.

        Args:
            pipeline: a pipeline of this package.
            parts: diffuser, scheduler or modalities, to be used instead of its own.

        Raises:
            TypeError: if the pipeline is another, or there is no such part.
        """
        if not isinstance(pipeline, ModelPipeline):
            raise TypeError(f"A {type(pipeline).__name__} has other parts: open the model with from_pretrained.")
        modalities: Any = dict(pipeline.modalities.items())
        own = {"diffuser": pipeline.diffuser, "scheduler": pipeline.scheduler, "modalities": modalities}
        made = cls(**{**own, **parts})  # pyright: ignore[reportArgumentType] - of parts by their names
        made.preset = pipeline.preset
        made.few_step_lora, made._own_few_step_lora = pipeline.few_step_lora, pipeline._own_few_step_lora
        return made

    def save_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride] - the options are those of an upload
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

        few = None if self.few_step_lora is None else self.few_step_lora.folder
        return Components(self.diffuser, dict(self.modalities.items()), self.scheduler, few)

    # ---- LoRAs of the diffuser ----

    def load_lora(self, folder: Path | str, name: str | None = None, scale: float = 1.0) -> str:
        """Adds a LoRA to those that are active, and returns its name; see `lora.load_lora`.

        It may be a folder of ours, or a .safetensors file that others wrote for Stable Diffusion v1. What it changes of
        CLIP's text encoder is changed, too. One for few steps, which `vd distill` makes, is what the preset fast uses
        from now on, on top of the LoRAs that are active, and changes nothing else.

        Raises:
            ValueError: if one for few steps is to be added at another scale than 1.
        """
        from versatile_diffusion.checkpoints.lora_files import few_steps_of
        from versatile_diffusion.modalities.clip import ClipTextEncoder

        place = Path(folder).expanduser()
        if (how := few_steps_of(place)) is not None:
            if scale != 1:
                raise ValueError(f"A LoRA for few steps is used as it was trained, at scale 1, got {scale:g}.")
            self.few_step_lora = FewStepLora(place if place.is_dir() else place.parent, how)
            return name or self.few_step_lora.folder.name
        encoders = context_encoders(self.modalities.values())
        of_texts = next((encoder for encoder in encoders if isinstance(encoder, ClipTextEncoder)), None)
        return lora.load_lora(self.diffuser, folder, name, scale, of_texts)

    @property
    def few_steps(self) -> FewSteps | None:
        """How the preset fast samples with a few-step LoRA; None without one, or where the weights take none."""
        found = self.few_step_lora
        return found.how if found is not None and found.usable_with(self.diffuser) else None

    @property
    def adapters(self) -> dict[str, float]:
        """The LoRAs that are here with their scales; those that are switched off have 0."""
        return {name: scale for part in self._adapted() for name, scale in lora.adapters(part).items()}

    def set_adapters(self, scales: Mapping[str, float]) -> None:
        """Switches these LoRAs on, at these scales, and all others off; see `lora.set_adapters`."""
        known = self.adapters
        for part in self._adapted():
            own = lora.adapters(part)
            lora.set_adapters(part, {name: scale for name, scale in scales.items() if name in own or name not in known})

    def fuse_lora(self) -> None:
        """Adds the active LoRAs to the weights, so that they cost no time."""
        for part in self._adapted():
            lora.fuse_lora(part)

    def unfuse_lora(self) -> None:
        """Takes fused LoRAs out of the weights again, up to rounding; they stay active."""
        for part in self._adapted():
            lora.unfuse_lora(part)

    def unload_lora(self) -> None:
        """Removes all LoRAs: the model is as it was before."""
        for part in self._adapted():
            lora.unload_lora(part)
        self.few_step_lora = self._own_few_step_lora

    def fuse_and_unload_lora(self) -> None:
        """Adds the active LoRAs to the weights for good and removes all: what is left is a model like any other."""
        for part in self._adapted():
            lora.fuse_and_unload_lora(part)

    def _adapted(self) -> list[nn.Module]:
        """The diffuser, and those encoders of contexts that hold LoRAs as well."""
        encoders = context_encoders(self.modalities.values())
        return [self.diffuser, *(encoder for encoder in encoders if hasattr(encoder, "peft_config"))]

    # ---- memory ----

    def quantize(self, weights: str = "int8") -> None:
        """Stores the weights of the diffuser and of the context encoders in fewer bits; see `quantize_parts`."""
        quantize_parts(self.diffuser, context_encoders(self.modalities.values()), weights)

    def enable_sequential_cpu_offload(
        self, gpu_id: int | None = None, device: torch.device | str | None = None
    ) -> None:
        """Brings each layer of the diffuser to the accelerator when it is needed; modalities as a whole.

        Args:
            gpu_id: which accelerator.
            device: the accelerator; the one that is there by default.

        Raises:
            RuntimeError: if there is none.
        """
        kernels.restore(self.diffuser)
        super().enable_sequential_cpu_offload(gpu_id, device)  # pyright: ignore[reportArgumentType] - None is its default
        offloading.offload_whole(self.modalities, self._execution_device)

    def enable_group_offload(  # pyright: ignore[reportIncompatibleMethodOverride] - it has no choice of components
        self,
        onload_device: torch.device | str,
        offload_device: torch.device | str = "cpu",
        offload_type: str = "leaf_level",
        use_stream: bool = False,
        **options: Any,
    ) -> None:
        """Brings each layer of the diffuser to the accelerator when it is needed; modalities as a whole.

        Args:
            onload_device: the accelerator.
            offload_device: where the weights of the diffuser wait.
            offload_type: "leaf_level", the only one: which blocks follow each other depends on the flow.
            use_stream: whether the next layer is brought while one computes. It is known only if there is one flow.
            options: see diffusers' `apply_group_offloading`.

        Raises:
            ValueError: if the type is another, or there are several flows and a stream.
        """
        offloading.check_groups(self.diffuser, offload_type, use_stream)
        self._maybe_raise_error_if_group_offload_active(raise_error=True)
        self.remove_all_hooks()
        kernels.restore(self.diffuser)
        offloading.offload_leaves(self.diffuser, onload_device, offload_device, use_stream, **options)
        offloading.offload_whole(self.modalities, torch.device(onload_device))

    # ---- speed ----

    def compile(self, **options: Any) -> None:
        """Compiles the diffuser: block by block, which takes a minute or more, or each flow as a whole by OpenVINO.

        Args:
            options: of `torch.compile`; see `compile_blocks`. With backend="openvino" those of OpenVINO instead; see
                `OpenVinoForward`. A LoRA that comes or goes undoes that, and so does `unpack`: compile it again.

        Raises:
            ImportError: if OpenVINO is asked for and not installed.
            ValueError: if OpenVINO cannot run the diffuser as it is.
        """
        if options.get("backend") == OPENVINO:
            given = {name: value for name, value in options.items() if name != "backend"}
            kernels.run_elsewhere(self.diffuser, OpenVinoForward(self.diffuser, given))
        else:
            compile_blocks(self.diffuser, **options)

    @property
    def backend(self) -> str | None:
        """What computes the diffuser: "openvino", or None where PyTorch does."""
        return OPENVINO if isinstance(vars(self.diffuser).get("forward"), OpenVinoForward) else None

    def pack(self) -> None:
        """Makes the diffuser and autoencoders quicker on the CPU; see `kernels.optimize`.

        Outputs stay the same but for rounding, and the model can be saved. Brought to another device or dtype it is as
        quick as before; LoRAs, `quantize` and `compile` undo it. Does nothing to what is not on the CPU.
        """
        for module in optimizable(self.diffuser, self.modalities.values()):
            kernels.optimize(module)

    def unpack(self) -> None:
        """Brings back what `pack` replaced, for example to train it; see `kernels.restore`."""
        for module in optimizable(self.diffuser, self.modalities.values()):
            kernels.restore(module)
