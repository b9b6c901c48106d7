"""The U-Nets of diffusers' pipelines, as views of one diffuser.

Users of `image_unet` call it as a U-Net, find its layers by diffusers' names, put LoRAs into them and train them. All
of that goes to the layers of the diffuser with which the pipeline computes, too; see `renaming`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from typing import Any, ClassVar, Self, cast

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.loaders import peft
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets import unet_2d_condition
from diffusers.utils.accelerate_utils import apply_forward_hook  # pyright: ignore[reportUnknownVariableType] - untyped
from jaxtyping import Float
from torch import Tensor, nn

from versatile_diffusion import kernels
from versatile_diffusion.checkpoints.diffuser_layouts import diffusers_unet
from versatile_diffusion.compat.attention import DualTransformer2DModel, Transformer2DModel
from versatile_diffusion.compat.renaming import children_of, layers, renames_children
from versatile_diffusion.diffuser import ConvolutionalLayers, Diffuser, FullyConnectedLayers

_ORDER = (
    *("conv_in", "time_embedding", "down_blocks", "up_blocks", "mid_block", "conv_norm_out", "conv_out"),
    *("attentions", "resnets", "downsamplers", "upsamplers"),
)

UNetOutput = unet_2d_condition.UNet2DConditionOutput


class _UNet(ModelMixin, ConfigMixin, peft.PeftAdapterMixin):
    """What the two share.

    Args:
        network: the diffuser.
        contexts: modalities that it attends to; with two, its attentions are `DualTransformer2DModel`s.
        sample_size: height and width of the latents that it was trained with.
        channels: of the latents.
    """

    config_name = "config.json"
    _supports_gradient_checkpointing = True
    _output: ClassVar[str]
    _suffix: ClassVar[str]  # of diffusers' names for blocks

    def __init__(self, network: Diffuser, contexts: Sequence[str], sample_size: int, channels: object) -> None:
        super().__init__()
        self._network = (network,)  # in a tuple, so as not to be a part of this one
        self.contexts = tuple(contexts)
        described = self._described() | {"sample_size": sample_size, "in_channels": channels, "out_channels": channels}
        self.register_to_config(**described)  # pyright: ignore[reportUnknownMemberType] - diffusers does not type it
        renames_children(self, network)
        table = diffusers_unet(network.plan, self._output, *contexts)
        names = layers({ours: theirs.key for ours, theirs in table.items()})
        self._attentions = [""] * len(network.plan.context)
        for ours, theirs in sorted(names.items(), key=lambda pair: _rank(pair[1])):
            if self._output in network.data_layers or ours.startswith("context_layers"):
                self._show(ours, theirs)
        self.register_load_state_dict_pre_hook(_flatten_pointwise)  # pyright: ignore[reportUnknownMemberType] - untyped

    # ---- what users call ----

    def forward(
        self,
        sample: Float[Tensor, "b c *s"],
        timestep: Tensor | float,
        encoder_hidden_states: Float[Tensor, "_ n d"],
        *,
        return_dict: bool = True,
        **others: object,
    ) -> UNetOutput | tuple[Tensor]:
        """Predicts the noise.

        Args:
            sample: noisy latents.
            timestep: 0 … 999, one for all or one for each.
            encoder_hidden_states: context tokens; those of both conditions one after the other, if there are two.
            return_dict: whether to return an object with the field `sample`, or a tuple.
            others: what else diffusers' U-Net takes; only None.

        Raises:
            ValueError: if something is given that is not computed here, or the batches differ.
        """
        if given := [name for name, value in others.items() if value is not None and value != {}]:
            raise ValueError(f"This U-Net does not compute with {', '.join(given)}: leave it out.")
        if len(encoder_hidden_states) != len(sample):
            raise ValueError(
                f"encoder_hidden_states must hold one row for each of the {len(sample)} latents, got "
                f"{len(encoder_hidden_states)}."
            )
        attentions = map(self.get_submodule, self._attentions)
        attending = [partial(self._attend, attention, encoder_hidden_states) for attention in attentions]
        timesteps = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        predicted = self._walk(sample, timesteps, attending)
        return UNetOutput(sample=predicted) if return_dict else (predicted,)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Switches the gradients of all weights; see `pack` for what that undoes."""
        if requires_grad:
            self.unpack()
        return super().requires_grad_(requires_grad)

    def add_adapter(self, adapter_config: Any, adapter_name: str = "default") -> None:
        """Adds a LoRA of peft, to be trained; see `pack` for what that undoes."""
        self.unpack()
        super().add_adapter(adapter_config, adapter_name)  # pyright: ignore[reportUnknownMemberType] - untyped

    def save_pretrained(self, *args: Any, **options: Any) -> None:
        """Not offered: raises NotImplementedError, and says what to do."""
        raise NotImplementedError(
            "This U-Net is a view of a diffuser, and not saved by itself. Save a LoRA with `save_lora_adapter`, and "
            "weights with `torch.save(image_unet.state_dict(), file)`."
        )

    # ---- speed and memory ----

    def pack(self) -> None:
        """Makes it quicker on the CPU where no gradient is asked for; see `kernels.optimize`.

        It then holds no weights to train: `requires_grad_` and `add_adapter` undo it, and `unpack` does.
        """
        kernels.optimize(self._network[0])

    def unpack(self) -> None:
        """Brings back what `pack` replaced."""
        kernels.restore(self._network[0])

    @apply_forward_hook  # so that offloaded weights come as for `forward`
    def brought(self) -> Diffuser:
        """Returns the diffuser, where it computes."""
        return self._network[0]

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether what lies between blocks is computed again for the gradients, and not kept."""
        return self._network[0].gradient_checkpointing

    def _set_gradient_checkpointing(self, *args: Any, **options: Any) -> None:
        """What diffusers calls to switch it."""
        self._network[0]._set_gradient_checkpointing(*args, **options)  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType] - diffusers' name

    # ---- details ----

    def _walk(
        self, sample: Tensor, timesteps: Tensor, attending: Sequence[Callable[[Tensor], Tensor]]
    ) -> Float[Tensor, "b ..."]:
        return self._network[0].walk(sample, timesteps, self._output, attending)

    @staticmethod
    def _attend(attention: nn.Module, tokens: Tensor, features: Tensor) -> Tensor:
        return attention(features, tokens, return_dict=False)[0]

    def _show(self, ours: str, theirs: str) -> None:
        """Shows a layer of the diffuser under the name that diffusers gives it."""
        block = ".".join(ours.split(".")[:3])  # such as context_layers.image.0
        *path, last = theirs.split(".")
        part: nn.Module = self
        for depth, name in enumerate(path):
            children, after = children_of(part), theirs.split(".")[depth + 1]
            if name not in children:
                children[name] = self._part(path[:depth], block, numbered=after.isdigit())
            if path[depth - 1 : depth] == ["attentions"]:
                self._attentions[int(block.rpartition(".")[2])] = ".".join(path[: depth + 1])
            part = cast(nn.Module, children[name])  # which was made here
        if isinstance(part, nn.ModuleList):  # diffusers has layers without weights where numbers are left out
            for number in range(len(part), int(last)):
                children_of(part)[str(number)] = nn.Identity()
        children_of(part).show(last, ours)

    def _part(self, above: Sequence[str], block: str, numbered: bool) -> nn.Module:
        """A part of the U-Net that is to hold layers, or a list of parts."""
        (network,) = self._network
        match above[-1:], len(self.contexts):
            case ["attentions"], 2:
                return DualTransformer2DModel(network)
            case ["attentions" | "transformers"], _:
                return Transformer2DModel(network, block)
            case _:
                part = nn.ModuleList() if numbered else nn.Module()
                renames_children(part, network)
                return part

    def _described(self) -> dict[str, Any]:
        """The configuration of diffusers' U-Net of these blocks."""
        (network,) = self._network
        sizes = network.plan.config
        kinds = ["CrossAttn" if attends else "" for attends in sizes.with_context]
        layers_per_block = set(sizes.num_res_blocks)
        theirs: Any = unet_2d_condition.UNet2DConditionModel  # which is typed in part
        options = inspect.signature(theirs).parameters.values()
        defaults = {option.name: option.default for option in options}
        return defaults | {
            "down_block_types": tuple(f"{kind}DownBlock{self._suffix}" for kind in kinds),
            "mid_block_type": f"UNetMidBlock{self._suffix}CrossAttn",
            "up_block_types": tuple(f"{kind}UpBlock{self._suffix}" for kind in reversed(kinds)),
            "block_out_channels": sizes.channels,
            "layers_per_block": layers_per_block.pop() if len(layers_per_block) == 1 else sizes.num_res_blocks,
            "cross_attention_dim": network.config["context_dims"][self.contexts[0]],
            "attention_head_dim": sizes.num_heads,  # diffusers' misnomer
            "dual_cross_attention": len(self.contexts) == 2,
        }


class UNet2DConditionModel(_UNet):
    """The U-Net of images: `image_unet(latents, t, encoder_hidden_states=tokens).sample`.

    Its names, arguments, configuration and results are those of diffusers' class of this name, and its weights are the
    diffuser's: nothing is held twice. It is no subclass of it.
    """

    _output = "image"
    _suffix = "2D"

    def __init__(self, network: Diffuser, contexts: Sequence[str], sample_size: int) -> None:
        layers = cast(ConvolutionalLayers, network.data_layers["image"])  # a ModuleDict holds modules of any kind
        super().__init__(network, contexts, sample_size, layers.latent_channels)

    @property
    def in_channels(self) -> int:
        """Channels of the latents."""
        return self.config["in_channels"]


class UNetFlatConditionModel(_UNet):
    """The U-Net of texts. It shares what attends to texts with the U-Net of images.

    Where the model was opened without what makes texts, it holds nothing else, and cannot be called.
    """

    _output = "text"
    _suffix = "Flat"

    def __init__(self, network: Diffuser, sample_size: int) -> None:
        layers = cast(FullyConnectedLayers | None, dict(network.data_layers.items()).get("text"))
        super().__init__(network, ("text",), sample_size, (layers.latent_dim if layers else 0, 1, 1))

    def _walk(
        self, sample: Tensor, timesteps: Tensor, attending: Sequence[Callable[[Tensor], Tensor]]
    ) -> Float[Tensor, "b ..."]:
        if "text" not in self._network[0].data_layers:
            raise ValueError("What makes texts was left out: open the pipeline with text_unet=True.")
        return super()._walk(sample.flatten(1), timesteps, attending).view_as(sample)


def _rank(name: str) -> list[int]:
    """Where a layer comes among all of diffusers' U-Net. LoRAs are drawn in that order, so a seed draws the same."""
    steps = takewhile(lambda step: step.isdigit() or step in _ORDER, name.split("."))
    return [int(step) if step.isdigit() else _ORDER.index(step) for step in steps]


def _flatten_pointwise(unet: nn.Module, weights: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Takes linear layers that diffusers stores as 1×1 convolutions."""
    for name, parameter in unet.named_parameters():
        given = weights.get(prefix + name)
        if given is not None and given.ndim == 4 and parameter.ndim == 2:
            weights[prefix + name] = given.flatten(1)
