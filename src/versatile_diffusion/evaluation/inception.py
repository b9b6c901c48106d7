"""The network whose features the FID compares: Inception-v3 of TensorFlow's first release of FID (arXiv 1706.08500).

It differs from other Inception-v3 in small things (padding of means, one maximum where others take a mean, how images
are resized), which are followed here, since no FID could be compared otherwise. The weights come from a file whose
tensors are named as in torch-fidelity and pytorch-fid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError

import torch
from jaxtyping import Float
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType] - typed in part
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, relu

from versatile_diffusion.evaluation.fid import ImageFeatures
from versatile_diffusion.files import quoted, require_file

DOWNLOAD = "download"
"""Instead of a file: fetch it, or take it from where it was fetched before."""

URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
_SIDE = 299
_FLAT, _TALL = (1, 7), (7, 1)

_Convolutions = Sequence[tuple[int, int | tuple[int, int]]]
"""Channels and kernel of each of some convolutions, one after the other."""

_HOW = f"Give the file of {URL}, or write --inception {DOWNLOAD} where there is a network."


class Inception(ImageFeatures):
    """Images -> 2048 features, those before the last layer.

    Attributes:
        source: the file of the weights and the beginning of its checksum, for people.
    """

    num_features = 2048

    def __init__(self) -> None:
        super().__init__()
        self.source = "random weights"
        self.Conv2d_1a_3x3 = _Unit(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Unit(32, 32, 3)
        self.Conv2d_2b_3x3 = _Unit(32, 64, 3, pad=True)
        self.Conv2d_3b_1x1 = _Unit(64, 80, 1)
        self.Conv2d_4a_3x3 = _Unit(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _fives(192, 32), _fives(256, 64), _fives(288, 64)
        self.Mixed_6a = _Mixed(288, {"branch3x3": [(384, 3)], "branch3x3dbl": [(64, 1), (96, 3), (96, 3)]}, None)
        self.Mixed_6b, self.Mixed_6c = _sevens(128), _sevens(160)
        self.Mixed_6d, self.Mixed_6e = _sevens(160), _sevens(192)
        long: _Convolutions = [(192, 1), (192, _FLAT), (192, _TALL), (192, 3)]
        self.Mixed_7a = _Mixed(768, {"branch3x3": [(192, 1), (320, 3)], "branch7x7x3": long}, None)
        self.Mixed_7b, self.Mixed_7c = _Split(1280, maximum=False), _Split(2048, maximum=True)
        self.fc = nn.Linear(2048, 1008)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """See `ImageFeatures.forward`. Images are rounded to 8 bits first, as they would be in files."""
        levels = (images.float() * 255).round()
        hidden = (resize_like_tensorflow(levels, _SIDE) - 128) / 128
        hidden = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(hidden)))
        hidden = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(max_pool2d(hidden, 3, 2)))
        hidden = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(max_pool2d(hidden, 3, 2))))
        hidden = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(hidden)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(hidden))).mean((2, 3))


def load_inception(file: str) -> Inception:
    """Returns the network with the weights of a file: .safetensors or .pth; "download" fetches it.

    Raises:
        ValueError: if the file does not hold these weights; the message says where to get them.
        OSError: if it cannot be fetched.
    """
    path = _fetched() if file == DOWNLOAD else Path(file)
    require_file(path)
    weights = _weights(path)
    with torch.device("meta"):
        network = Inception()
    expected = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    wrong = sorted(name for name in expected if name not in weights or weights[name].shape != shapes[name])
    if wrong:
        raise ValueError(
            f"{quoted(path)} does not hold the weights of the FID's Inception: {len(wrong)} of {len(expected)} tensors "
            f"are missing or of another size, such as {wrong[0]}. {_HOW}"
        )
    network.load_state_dict({name: weights[name].float() for name in expected}, assign=True)
    network.source = f"{path.name}, sha256 {sha256(path.read_bytes()).hexdigest()[:16]}"
    return network


def resize_like_tensorflow(images: Float[Tensor, "b c h w"], side: int) -> Float[Tensor, "b c side side"]:
    """Returns images resized bilinearly as TensorFlow 1 does: from the corner of pixels, and without smoothing."""
    resized: Tensor = images
    for axis in (-2, -1):
        length = images.shape[axis]
        places = torch.arange(side, dtype=torch.float32, device=images.device) * (length / side)
        low = places.long()
        high = (low + 1).clamp_max(length - 1)
        share = (places - low)[:, None] if axis == -2 else places - low
        first = resized.index_select(axis, low)
        resized = first + (resized.index_select(axis, high) - first) * share
    return resized


def _fetched() -> Path:
    """The file in the cache of torch.hub."""
    cache = Path(torch.hub.get_dir(), "checkpoints", URL.rpartition("/")[2])
    if not cache.is_file():
        cache.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(URL, str(cache), hash_prefix="6726825d", progress=False)
        except (OSError, RuntimeError) as error:
            raise OSError(f"Inception's weights cannot be fetched ({error}). {_HOW}") from error
    return cache


def _weights(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        loaded: object = torch.load(path, map_location="cpu", weights_only=True)  # pyright: ignore[reportUnknownMemberType] - typed in part
    except (OSError, ValueError, RuntimeError, UnpicklingError, EOFError, KeyError) as error:
        raise ValueError(f"Cannot read weights from {quoted(path)}: {error!s:.200} {_HOW}") from error
    held = loaded if isinstance(loaded, dict) else {}  # pyright: ignore[reportUnknownVariableType] - of anything
    return {str(name): tensor for name, tensor in held.items() if isinstance(tensor, Tensor)}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType, reportUnknownMemberType] - of anything


class _Unit(nn.Module):
    """A convolution without bias, normalised, and cut at 0."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, pad: bool = False
    ) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if pad else 0
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, hidden: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        return relu(self.bn(self.conv(hidden)))


class _Mixed(nn.Module):
    """Branches side by side, each some convolutions, and one more of the pixels' surroundings.

    Args:
        inputs: channels.
        branches: channels and kernel of each convolution, by the name of the branch.
        pooled: channels of the last branch; None halves height and width, in the last convolution of each branch and
            by maxima in the last branch.
    """

    def __init__(self, inputs: int, branches: Mapping[str, _Convolutions], pooled: int | None) -> None:
        super().__init__()
        self.branches: list[list[str]] = []
        for branch, convolutions in branches.items():
            single, channels = len(convolutions) == 1, inputs
            names = [branch if single else f"{branch}_{number}" for number in range(1, len(convolutions) + 1)]
            for name, (outputs, kernel) in zip(names, convolutions, strict=True):
                halves = pooled is None and name == names[-1]
                self.add_module(name, _Unit(channels, outputs, kernel, 2 if halves else 1, pad=not halves))
                channels = outputs
            self.branches.append(names)
        if pooled is not None:
            self.branch_pool = _Unit(inputs, pooled, 1)
        self.halves = pooled is None

    def forward(self, hidden: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        outputs: list[Tensor] = []
        for names in self.branches:
            value = hidden
            for name in names:
                value = self.get_submodule(name)(value)
            outputs.append(value)
        outputs.append(max_pool2d(hidden, 3, 2) if self.halves else self.branch_pool(_mean_around(hidden)))
        return torch.cat(outputs, 1)


class _Split(nn.Module):
    """The last blocks, two of whose branches end in two convolutions side by side.

    Args:
        inputs: channels.
        maximum: whether the surroundings of a pixel are its neighbours' maximum, as in the last block, or their mean.
    """

    def __init__(self, inputs: int, maximum: bool) -> None:
        super().__init__()
        self.maximum = maximum
        self.branch1x1 = _Unit(inputs, 320, 1)
        self.branch3x3_1 = _Unit(inputs, 384, 1)
        self.branch3x3_2a, self.branch3x3_2b = _Unit(384, 384, (1, 3), pad=True), _Unit(384, 384, (3, 1), pad=True)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Unit(inputs, 448, 1), _Unit(448, 384, 3, pad=True)
        self.branch3x3dbl_3a = _Unit(384, 384, (1, 3), pad=True)
        self.branch3x3dbl_3b = _Unit(384, 384, (3, 1), pad=True)
        self.branch_pool = _Unit(inputs, 192, 1)

    def forward(self, hidden: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        short, long = self.branch3x3_1(hidden), self.branch3x3dbl_2(self.branch3x3dbl_1(hidden))
        around = max_pool2d(hidden, 3, 1, 1) if self.maximum else _mean_around(hidden)
        outputs = [
            self.branch1x1(hidden),
            self.branch3x3_2a(short),
            self.branch3x3_2b(short),
            self.branch3x3dbl_3a(long),
            self.branch3x3dbl_3b(long),
            self.branch_pool(around),
        ]
        return torch.cat(outputs, 1)


def _fives(inputs: int, pooled: int) -> _Mixed:
    branches: dict[str, _Convolutions]
    branches = {"branch1x1": [(64, 1)], "branch5x5": [(48, 1), (64, 5)], "branch3x3dbl": [(64, 1), (96, 3), (96, 3)]}
    return _Mixed(inputs, branches, pooled)


def _sevens(middle: int) -> _Mixed:
    once: _Convolutions = [(middle, 1), (middle, _FLAT), (192, _TALL)]
    twice: _Convolutions = [(middle, 1), (middle, _TALL), (middle, _FLAT), (middle, _TALL), (192, _FLAT)]
    return _Mixed(768, {"branch1x1": [(192, 1)], "branch7x7": once, "branch7x7dbl": twice}, 192)


def _mean_around(hidden: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The mean of each pixel and its neighbours, of which the border has fewer."""
    return avg_pool2d(hidden, 3, 1, 1, count_include_pad=False)
