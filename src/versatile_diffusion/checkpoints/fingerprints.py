"""Checksums of weights, which tell one set of them from another."""

from __future__ import annotations

from hashlib import sha256

import torch
from torch import nn


def fingerprint(module: nn.Module) -> str:
    """Returns a checksum of the weights of a module."""
    digest = sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
