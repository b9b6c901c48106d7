"""What libraries tell while they are imported."""

from __future__ import annotations

from logging import ERROR, getLogger

_TALKATIVE = ("torchao", "torch.utils._pytree", "diffusers.quantizers.torchao")
"""diffusers imports torchao wherever it is installed, which then tells of kernels that nobody asked for."""


def silence_imports() -> None:
    """Leaves out news that are not for users."""
    for name in _TALKATIVE:
        getLogger(name).setLevel(ERROR)
