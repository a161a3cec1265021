"""What the plain layers promise beyond their formulas: which of them are never rounded."""

import pytest
import torch

from ditgta import DiT
from ditgta.model.layers import Modulation, RMSNorm
from tests.kernels.test_cpu import draws


def test_modulation_is_float32_under_autocast():
    layer = Modulation(48, 2)
    exact, c = layer(draws(2, 48)), draws(2, 48)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, layer(c), exact))


def test_norm_has_its_epsilon_outside_the_root():
    norm, x = RMSNorm(4), torch.tensor([3e-8, 0.0, 4e-8, 0.0])
    assert torch.allclose(norm(x), x / (5e-8 / 2 + 1e-8))


@pytest.mark.parametrize("posenc", ["abs", "gta", "gta-mixed"])
def test_residuals_are_float32_under_autocast(posenc):
    model, kinds = DiT.from_name("DiT-S/2", 64, posenc, 5, depth=2, width=48, heads=2), []
    for block in model.blocks:
        block.register_forward_hook(lambda module, given, given_back: kinds.append(given_back.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(draws(1, 4, 8, 8), torch.tensor([5]), torch.tensor([1]))
    assert kinds == [torch.float32] * 2


def test_a_block_leaves_its_input_as_it_was():
    model = DiT.from_name("DiT-S/2", 64, "gta", 5, depth=1, width=48, heads=2)
    x = draws(1, 16, 48)
    before = x.clone()
    with torch.inference_mode():
        model.blocks[0](x, draws(1, 48), next(model.encoding.tables()))
    assert torch.equal(x, before)
