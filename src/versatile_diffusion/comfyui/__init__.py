"""Nodes of ComfyUI, and the folder that ComfyUI finds them by. See docs/comfyui.md."""
