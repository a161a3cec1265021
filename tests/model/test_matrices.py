"""Encodings by learned matrices have the properties that define them."""

from dataclasses import asdict

import pytest
import torch

from ditgta import DiT, DiTConfig
from ditgta.model.positional import POSENCS, rotate
from ditgta.model.positional.matrices import LieRotations
from ditgta.runtime.streams import generator
from tests.model.test_every_encoding import answer, built


def liere(kind=LieRotations, rows=4, columns=6, depth=2):
    encoding = kind(rows, columns, 48, 2, depth)
    with torch.no_grad():
        encoding.upper.copy_(encoding.initial("upper", generator(0, "test")))
    return encoding


@torch.no_grad()
def test_exponentials_are_rotations_of_eight_channels():
    table = liere().rotation_table()
    assert table.shape == (2, 24, 2, 3, 8, 8)
    assert torch.allclose(table @ table.mT, torch.eye(8).expand_as(table), atol=5e-5)
    assert torch.allclose(torch.linalg.det(table), torch.ones(table.shape[:-2]), atol=5e-5)


@torch.no_grad()
def test_they_add_up_along_an_axis_and_not_across():
    """R(p) R(q) = R(p + q) where p and q lie along one axis alone: the two generators do not commute."""
    table = liere().rotation_table().unflatten(1, (4, 6))
    assert torch.allclose(table[:, 1, 0] @ table[:, 2, 0], table[:, 3, 0], atol=5e-5)
    assert torch.allclose(table[:, 0, 1] @ table[:, 0, 4], table[:, 0, 5], atol=5e-5)
    across = (table[:, 1, 0] @ table[:, 0, 1] - table[:, 1, 1]).flatten(-2).norm(dim=-1)
    assert across.min() > 0.05


def test_entries_start_between_0_and_2_pi():
    upper = liere().upper.detach()
    assert (
        upper.min() >= 0
        and upper.max() <= 2 * torch.pi
        and float(upper.mean()) == pytest.approx(torch.pi, rel=0.1)
    )


@torch.no_grad()
def test_blocks_of_two_channels_are_mixed_frequencies():
    class Pairs(LieRotations):
        block = 2

    encoding, mixed = liere(Pairs), POSENCS["rope-mixed"](4, 6, 48, 2, 2)
    per_row, per_column = encoding.upper[:, :, 0, :, :, 0]  # (L, H, P) each
    mixed.theta.copy_(-torch.stack([per_row / 3, per_column / 5], dim=-1))
    x = torch.randn(3, 24, 2, 24)
    for one, other in zip(encoding.tables(), mixed.tables()):
        assert torch.allclose(rotate(x, one.rotation), rotate(x, other.rotation), atol=5e-5)


def test_the_matrices_of_dit_b_2():
    assert sum(parameter.numel() for parameter in LieRotations(16, 16, 768, 12, 12).parameters()) == 64_512


def test_head_widths_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="posenc liere needs a head width divisible by 8, got 12"):
        DiT.from_name("DiT-S/2", 64, "liere", depth=1, width=24, heads=2)


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


@torch.no_grad()
@pytest.mark.parametrize("qk_norm", [True, False])
def test_maps_start_as_the_identity(qk_norm):
    model, rope = (built(name, qk_norm=qk_norm) for name in ("rope-harope", "rope"))
    for name, parameter in model.encoding.named_parameters():
        parameter.copy_(model.encoding.initial(name, None))
    assert relative_error(answer(model), answer(rope)) < 1e-6


@torch.no_grad()
def test_without_norms_the_projections_absorb_the_maps():
    """The control: whatever it learns, `rope` can compute."""
    model = built("rope-harope", qk_norm=False)
    rope = DiT(DiTConfig(**{**asdict(model.config), "posenc": "rope"}))
    weights = {name: tensor for name, tensor in model.state_dict().items() if "encoding" not in name}
    for number, (maps, block) in enumerate(zip(model.encoding.map_table(), model.blocks)):
        weight, bias = (
            tensor.unflatten(0, (3, 2, 72)).clone() for tensor in (block.attn.qkv.weight, block.attn.qkv.bias)
        )
        weight[:2], bias[:2] = maps @ weight[:2], (maps @ bias[:2, ..., None])[..., 0]
        weights |= {
            f"blocks.{number}.attn.qkv.weight": weight.flatten(0, 2),
            f"blocks.{number}.attn.qkv.bias": bias.flatten(),
        }
    plain = DiT(rope.config)
    plain.load_state_dict(
        {name: tensor for name, tensor in model.state_dict().items() if "encoding" not in name}
    )
    rope.load_state_dict(weights)
    assert relative_error(answer(plain), answer(model)) > 1e-3
    assert relative_error(answer(rope), answer(model)) < 2e-6


@torch.no_grad()
def test_the_map_of_keys_is_the_inverse_transposed():
    maps = built("rope-harope").encoding.map_table()
    product = maps[:, 0] @ maps[:, 1].mT
    assert torch.allclose(product, torch.eye(72).expand_as(product), atol=1e-4)


def test_the_maps_of_dit_b_2():
    encoding = POSENCS["rope-harope"](16, 16, 768, 12, 12)
    assert sum(parameter.numel() for parameter in encoding.parameters()) == 1_188_864
