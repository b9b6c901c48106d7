"""Nodes for Versatile Diffusion: texts, pictures and sounds from texts, pictures and sounds."""

from versatile_diffusion.comfyui.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
