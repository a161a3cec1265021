"""Encodings by learned matrices have the properties that define them."""

import pytest
import torch

from ditgta import DiT
from ditgta.model.positional import POSENCS, rotate
from ditgta.model.positional.matrices import LieRotations
from ditgta.runtime.streams import generator


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
