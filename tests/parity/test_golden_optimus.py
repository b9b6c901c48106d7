import pytest
import torch

from tests.parity import golden
from versatile_diffusion.checkpoints.encoder_keys import OPTIMUS_LEFT_OUT, optimus
from versatile_diffusion.checkpoints.keys import to_ours
from versatile_diffusion.kernels import linear, packing
from versatile_diffusion.modalities.optimus import Optimus


@pytest.fixture(scope="module")
def pair() -> golden.Golden:
    return golden.read("optimus")


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "packed"])
def model(request: pytest.FixtureRequest, pair: golden.Golden) -> Optimus:
    bert, gpt2 = (
        {name: size for name, size in pair.config[part].items() if isinstance(size, int | float | str)}
        for part in ("bert", "gpt2")
    )
    made = Optimus(bert, gpt2, latent_dim=pair.tensors["mu"].shape[1]).eval()
    made.load_state_dict(to_ours(optimus(made.state_dict()), pair.weights(), left_out=OPTIMUS_LEFT_OUT))
    if request.param:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(linear, "LARGE", 0)
            packing.pack(made.decoder)
        assert any(isinstance(layer, packing.PackedConv1D) for layer in made.decoder.modules())
    return made


@torch.inference_mode()
def test_golden_posterior(pair: golden.Golden, model: Optimus) -> None:
    mu, logvar = model.posterior(pair.tensors["input_ids"])
    assert golden.relative_error(mu, pair.tensors["mu"]) < 1e-4
    assert golden.relative_error(logvar, pair.tensors["logvar"]) < 1e-4


@torch.inference_mode()
def test_golden_logits(pair: golden.Golden, model: Optimus) -> None:
    logits = model.logits(pair.tensors["z"], pair.tensors["decoder_ids"])
    assert golden.relative_error(logits, pair.tensors["logits"]) < 1e-4


@torch.inference_mode()
def test_golden_greedy_decoding(pair: golden.Golden, model: Optimus) -> None:
    expected = pair.tensors["greedy_ids"]
    bos = pair.config["bos_token_id"]
    tokens = model.generate(pair.tensors["z"], bos=bos, eos=None, max_tokens=expected.shape[1] - 1, temperature=0)
    torch.testing.assert_close(torch.tensor(tokens), expected[:, 1:])
