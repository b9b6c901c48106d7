"""The layouts in which Versatile Diffusion and Stable Diffusion are published."""

from __future__ import annotations

from collections.abc import Mapping

from versatile_diffusion.checkpoints.diffuser_keys import (
    CONVOLUTIONAL,
    FULLY_CONNECTED,
    Layout,
    Site,
    Stage,
    Stream,
    context_table,
    data_table,
    global_table,
)
from versatile_diffusion.checkpoints.keys import Theirs
from versatile_diffusion.diffuser.plan import DataStep, Plan, Role

STREAMS: Mapping[str, Stream] = {"image": CONVOLUTIONAL, "text": FULLY_CONNECTED}

_LATENT_DIFFUSION_RESIDUAL = {
    "norm_in": "in_layers.0",
    "project_in": "in_layers.2",
    "project_time": "emb_layers.1",
    "norm_out": "out_layers.0",
    "project_out": "out_layers.3",
    "shortcut": "skip_connection",
}
_DIFFUSERS_RESIDUAL = {
    "norm_in": "norm1",
    "project_in": "conv1",
    "project_time": "time_emb_proj",
    "norm_out": "norm2",
    "project_out": "conv2",
    "shortcut": "conv_shortcut",
}


def official(plan: Plan) -> dict[str, Theirs]:
    """Returns the diffuser in vd-four-flow-v1-0.pth: numbered data and context blocks."""
    table = global_table(_official("image"))  # the official network keeps one copy, with the image stream
    for name, stream in STREAMS.items():
        layout = _official(name)
        table |= data_table(plan, f"data_layers.{name}", stream, layout)
        table |= context_table(plan, f"context_layers.{name}", layout)
    return table


def legacy(plan: Plan) -> dict[str, Theirs]:
    """Returns the diffuser in vd-four-flow-v1-0-deprecated.pth: two U-Nets of the latent diffusion code."""
    table = global_table(_latent_diffusion("unet_image"))
    for name, stream in STREAMS.items():
        layout = _latent_diffusion(f"unet_{name}")
        table |= data_table(plan, f"data_layers.{name}", stream, layout)
        table |= context_table(plan, f"context_layers.{name}", layout)
    return table


def stable_diffusion(plan: Plan) -> dict[str, Theirs]:
    """Returns the U-Net in a single file of Stable Diffusion v1, in the names of the latent diffusion code."""
    layout = _latent_diffusion()
    table = global_table(layout) | data_table(plan, "data_layers.image", STREAMS["image"], layout)
    return table | context_table(plan, "context_layers.text", layout)


def diffusers_unet(plan: Plan, output: str, *contexts: str) -> dict[str, Theirs]:
    """One U-Net of diffusers: UNet2DConditionModel for images, UNetFlatConditionModel for texts.

    Args:
        plan: the order of steps.
        output: the modality whose data layers it holds.
        contexts: the modalities whose context layers it holds: one, or two side by side in its DualTransformer2DModels.
    """
    layout = _diffusers(levels=len(plan.config.channels))
    table = global_table(layout)
    table |= data_table(plan, f"data_layers.{output}", STREAMS[output], layout)
    for i, context in enumerate(contexts):
        within = f".transformers.{i}" if len(contexts) > 1 else ""
        table |= context_table(plan, f"context_layers.{context}", _diffusers(len(plan.config.channels), within))
    return table


def _official(modality: str) -> Layout:
    def data(step: DataStep, site: Site) -> str:
        return f"diffuser.{modality}.data_blocks.{site.index}.0"

    def context(site: Site) -> str:
        return f"diffuser.{modality}.context_blocks.{site.index}.0"

    time = (f"diffuser.{modality}.time_embed.0", f"diffuser.{modality}.time_embed.2")
    return Layout(data, context, time, _LATENT_DIFFUSION_RESIDUAL, downsample="op", upsample="conv", last=("0", "2"))


def _latent_diffusion(stream: str = "") -> Layout:
    """A U-Net of the latent diffusion code. `stream` is its name, where there are several."""
    model = "model.diffusion_model"
    unet = f"{model}.{stream}" if stream else model

    def context(site: Site) -> str:
        match site.stage:
            case Stage.DOWN:
                return f"{unet}.input_blocks.{site.block}.{site.position}"
            case Stage.MIDDLE:
                return f"{unet}.middle_block.{site.position}"
            case Stage.UP:
                return f"{unet}.output_blocks.{site.block}.{site.position}"

    def data(step: DataStep, site: Site) -> str:
        return f"{unet}.out" if step.role is Role.OUTPUT else context(site)

    time = (f"{model}.time_embed.0", f"{model}.time_embed.2")
    return Layout(data, context, time, _LATENT_DIFFUSION_RESIDUAL, downsample="op", upsample="conv", last=("0", "2"))


def _diffusers(levels: int, within: str = "") -> Layout:
    """A U-Net of diffusers. `within` is where the layers of one context are in what attends."""

    def block(site: Site) -> str:
        match site.stage:
            case Stage.DOWN:
                return f"down_blocks.{site.level}"
            case Stage.MIDDLE:
                return "mid_block"
            case Stage.UP:
                return f"up_blocks.{levels - 1 - site.level}"

    def data(step: DataStep, site: Site) -> str:
        match step.role:
            case Role.INPUT:
                return "conv_in"
            case Role.RESIDUAL:
                return f"{block(site)}.resnets.{site.layer}"
            case Role.DOWNSAMPLE:
                return f"{block(site)}.downsamplers.0"
            case Role.UPSAMPLE:
                return f"{block(site)}.upsamplers.0"
            case Role.OUTPUT:
                return ""

    def context(site: Site) -> str:
        return f"{block(site)}.attentions.{site.layer}{within}"

    time = ("time_embedding.linear_1", "time_embedding.linear_2")
    last = ("conv_norm_out", "conv_out")
    return Layout(data, context, time, _DIFFUSERS_RESIDUAL, downsample="conv", upsample="conv", last=last)
