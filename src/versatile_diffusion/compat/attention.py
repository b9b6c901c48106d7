"""What attends in diffusers' U-Nets, made of the diffuser's context blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers import dual_transformer_2d
from jaxtyping import Float
from torch import Tensor, is_grad_enabled, nn

from versatile_diffusion.compat.renaming import renames_children
from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.diffuser.context_layers import ContextBlock

Output = Transformer2DModelOutput | tuple[Tensor]


class Transformer2DModel(nn.Module):
    """A context block of the diffuser, with the names and the arguments of diffusers' Transformer2DModel.

    Args:
        network: that holds the block.
        place: where.
    """

    def __init__(self, network: Diffuser, place: str) -> None:
        super().__init__()
        renames_children(self, network)
        self._network = (network,)  # in a tuple, so as not to be a part of this one
        self._place = place

    def forward(
        self,
        hidden_states: Float[Tensor, "b c *s"],
        encoder_hidden_states: Float[Tensor, "b n d"],
        timestep: object = None,
        return_dict: bool = True,
    ) -> Output:
        """Returns the features, changed by what they find in the tokens. It does not look at the timestep."""
        (network,) = self._network
        block = cast(ContextBlock, network.get_submodule(self._place))  # get_submodule returns any module
        keys_values = block.attend_cross.keys_values(encoder_hidden_states)
        return output(network.run_block(block, hidden_states, keys_values), return_dict)


class DualTransformer2DModel(dual_transformer_2d.DualTransformer2DModel):
    """Two context blocks whose results are mixed: what diffusers' class of this name is, on the diffuser's own layers.

    Code finds them by `isinstance` in `image_unet.named_modules()`, with this class or with diffusers', and sets their
    attributes. Each of them has its own, and reads them whenever it is called.

    Attributes:
        mix_ratio: share of the first condition; the second has the rest.
        condition_lengths: tokens of each condition, which are one after the other in `encoder_hidden_states`.
        transformer_index_for_condition: for each condition, which of the two transformers attends to it: 0 is that of
            images, 1 that of texts.
    """

    def __init__(self, network: Diffuser) -> None:
        nn.Module.__init__(self)  # diffusers' own would make layers
        renames_children(self, network)
        self.mix_ratio = 0.5
        self.condition_lengths = [77, 257]
        self.transformer_index_for_condition = [1, 0]

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] - it offers no attention processors
        self,
        hidden_states: Float[Tensor, "b c *s"],
        encoder_hidden_states: Float[Tensor, "b n d"],
        timestep: object = None,
        return_dict: bool = True,
    ) -> Output:
        """Returns the features, changed by what they find in both conditions.

        A condition without a share costs nothing, unless gradients are asked for.
        """
        first, second = self.condition_lengths
        conditions = encoder_hidden_states[:, :first], encoder_hidden_states[:, first : first + second]
        transformers = cast(Sequence[Transformer2DModel], self.transformers)  # a ModuleList holds modules of any kind
        changes: list[Tensor] = []
        for condition, index, share in zip(
            conditions, self.transformer_index_for_condition, (self.mix_ratio, 1 - self.mix_ratio), strict=True
        ):
            if share != 0 or is_grad_enabled():
                attended = transformers[index](hidden_states, condition, return_dict=False)[0]
                changes.append((attended - hidden_states) * share)
        return output(sum(changes[1:], changes[0]) + hidden_states, return_dict)


def output(features: Float[Tensor, "b c *s"], return_dict: bool) -> Output:
    """Features as diffusers returns them."""
    return Transformer2DModelOutput(sample=features) if return_dict else (features,)
