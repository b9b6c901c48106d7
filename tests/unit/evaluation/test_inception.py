from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from versatile_diffusion.evaluation import inception
from versatile_diffusion.evaluation.inception import DOWNLOAD, Inception, load_inception, resize_like_tensorflow


def waves() -> dict[str, Tensor]:
    """Weights that are the same everywhere, by the names that the field's file has."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Inception().state_dict().items() if tensor.ndim}
    made: dict[str, Tensor] = {}
    for place, (name, shape) in enumerate(sorted(shapes.items())):
        wave = torch.sin(torch.arange(shape.numel(), dtype=torch.float64) * (1 + place % 7) + place).reshape(shape)
        if name.endswith("running_var"):
            wave = 1 + 0.3 * wave
        elif name.endswith("bn.weight"):
            wave = 1.2 + 0.3 * wave
        else:
            wave = wave * ((3 * shape[0] / shape.numel()) ** 0.5 if len(shape) > 1 else 0.1)
        made[name] = wave.float()
    return made


def test_features_are_those_of_torch_fidelity(tmp_path: Path) -> None:
    """Values of torch-fidelity 0.4.0 with these weights, of an image that is neither square nor large."""
    save_file(waves(), tmp_path / "inception.safetensors")
    network = load_inception(str(tmp_path / "inception.safetensors"))
    y, x = torch.meshgrid(torch.arange(40), torch.arange(56), indexing="ij")
    levels = torch.stack([(x * 4) % 256, (y * 6) % 256, (x * y) % 256])
    features = network(levels[None] / 255)
    assert features.shape == (1, network.num_features) and not features.requires_grad
    assert features[0, :2].tolist() == pytest.approx([0.7415205836296082, 0.026668813079595566], rel=1e-4)
    assert features.sum().item() == pytest.approx(181.22177124023438, rel=1e-4)
    assert network.source.startswith("inception.safetensors, sha256 ")


def test_images_are_resized_from_the_corner() -> None:
    resized = resize_like_tensorflow(torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 2, 4), 8)
    assert resized[0, 0, 3].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]


def test_other_files_are_refused_and_told_where_to_get_the_right_one(tmp_path: Path) -> None:
    torch.save({"fc.bias": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"does not hold the weights of the FID's Inception: .*--inception download"):
        load_inception(str(tmp_path / "other.pth"))
    (tmp_path / "broken.pth").write_bytes(b"PK no weights")
    with pytest.raises(ValueError, match=r"Cannot read weights from .*broken.pth.*weights-inception-2015-12-05"):
        load_inception(str(tmp_path / "broken.pth"))
    with pytest.raises(ValueError, match="There is no file"):
        load_inception(str(tmp_path / "none.pth"))


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"fc.bias": Path(tmp_path)}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match="Cannot read weights"):
        load_inception(str(tmp_path / "code.pth"))


def test_a_download_that_fails_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(inception.torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(inception.torch.hub, "download_url_to_file", fail)
    with pytest.raises(OSError, match=r"cannot be fetched \(no network\)\. Give the file of https://"):
        load_inception(DOWNLOAD)
