"""The multi-flow diffuser: global, data and context layers walked in one fixed order (paper, section 3.2)."""

from versatile_diffusion.diffuser.context_layers import ContextLayers
from versatile_diffusion.diffuser.data_layers import ConvolutionalLayers, DataLayers, FullyConnectedLayers
from versatile_diffusion.diffuser.model import ContextTokens, Diffuser, PreparedContext
from versatile_diffusion.diffuser.plan import DiffuserConfig, Plan

__all__ = [
    "ContextLayers",
    "ContextTokens",
    "ConvolutionalLayers",
    "DataLayers",
    "Diffuser",
    "DiffuserConfig",
    "FullyConnectedLayers",
    "Plan",
    "PreparedContext",
]
