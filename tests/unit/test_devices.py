import pytest
import torch

from versatile_diffusion.devices import choose_device, choose_dtype, computes_bf16


@pytest.fixture
def only_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def with_bf16(monkeypatch: pytest.MonkeyPatch, avx512: bool, amx: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_the_fastest_device(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device() == torch.device(expected)


@pytest.mark.usefixtures("only_cpu")
@pytest.mark.parametrize(("name", "message"), [("cuda", "no cuda device"), ("cuda:1", "no cuda"), ("gpu", "not a")])
def test_devices_that_are_not_here_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_device(name)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_accelerators_compute_in_fp16(device: str) -> None:
    assert choose_dtype("auto", torch.device(device)) == torch.float16


@pytest.mark.parametrize(("avx512", "amx"), [(False, False), (True, False), (False, True)])
def test_the_cpu_computes_in_bf16_only_where_it_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, avx512: bool, amx: bool
) -> None:
    with_bf16(monkeypatch, avx512, amx)
    cpu = torch.device("cpu")
    assert computes_bf16(cpu) == (avx512 or amx)
    assert choose_dtype("auto", cpu) == (torch.bfloat16 if avx512 or amx else torch.float32)


def test_a_dtype_by_name_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with_bf16(monkeypatch, avx512=False, amx=False)
    assert choose_dtype("bf16", torch.device("cpu")) == torch.bfloat16
    with pytest.raises(ValueError, match="fp8"):
        choose_dtype("fp8", torch.device("cpu"))
