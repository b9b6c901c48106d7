from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import UNetFlatConditionModel

from versatile_diffusion.checkpoints.diffuser_layouts import diffusers_unet
from versatile_diffusion.checkpoints.keys import to_ours, to_theirs
from versatile_diffusion.diffuser import ContextTokens, ConvolutionalLayers, Diffuser, DiffuserConfig, Plan
from versatile_diffusion.diffuser.data_layers import FullyConnectedLayers

CONFIG = DiffuserConfig(32, (1, 2), (1, 1), (True, False), num_heads=4)
PEER: dict[str, Any] = {
    "block_out_channels": CONFIG.channels,
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "attention_head_dim": CONFIG.num_heads,  # diffusers' name for the number of heads
    "norm_num_groups": 32,
}


Peer = UNet2DConditionModel | UNetFlatConditionModel


def random_peer(cls: type[Peer], suffix: str, channels: int) -> Peer:
    torch.manual_seed(0)
    blocks = {
        "down_block_types": (f"CrossAttnDownBlock{suffix}", f"DownBlock{suffix}"),
        "up_block_types": (f"UpBlock{suffix}", f"CrossAttnUpBlock{suffix}"),
    }
    return cls(in_channels=channels, out_channels=channels, **blocks, **PEER).eval()


def converted(peer: Peer, output: str, context: str) -> Diffuser:
    def image(plan: Plan) -> ConvolutionalLayers:
        return ConvolutionalLayers(plan, latent_channels=4)

    def text(plan: Plan) -> FullyConnectedLayers:
        return FullyConnectedLayers(plan, latent_dim=4 * 48)

    diffuser = Diffuser(CONFIG, {output: {"image": image, "text": text}[output]}, {context: 24}).eval()
    table = diffusers_unet(diffuser.plan, output, context)
    ours = to_ours(table, peer.state_dict())
    diffuser.load_state_dict(ours)
    back = to_theirs(table, ours)
    assert all(torch.equal(back[key], tensor) for key, tensor in peer.state_dict().items())
    assert back.keys() == peer.state_dict().keys()
    return diffuser


@pytest.mark.parametrize("context", ["image", "text"])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 8), (7, 5)])
@torch.inference_mode()
def test_image_unet(context: str, height: int, width: int):
    peer = random_peer(UNet2DConditionModel, "2D", channels=4)
    x, tokens, t = torch.randn(2, 4, height, width), torch.randn(2, 5, 24), torch.tensor([3, 921])
    actual = converted(peer, "image", context)(x, t, "image", [ContextTokens(context, tokens)])
    torch.testing.assert_close(actual, peer(x, t, tokens).sample, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_text_unet():
    peer = random_peer(UNetFlatConditionModel, "Flat", channels=48)
    x, tokens, t = torch.randn(2, 48, 4, 1), torch.randn(2, 5, 24), torch.tensor([3, 921])
    actual = converted(peer, "text", "text")(x.flatten(1), t, "text", [ContextTokens("text", tokens)])
    torch.testing.assert_close(actual, peer(x, t, tokens).sample.flatten(1), rtol=1e-4, atol=1e-5)
