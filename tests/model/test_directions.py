"""Rotations along many directions have the properties that define them."""

import math

import pytest
import torch

from ditgta.model.positional import POSENCS


def frequencies_of(name, width=128, heads=2, rows=16, columns=16, **options):
    """Returns (H or 1, P, 2)."""
    return POSENCS[name](rows, columns, width, heads, **options).frequencies()[0]


def groups_of(frequencies):
    """Returns the speeds and directions, 0 <= angle < pi, of pairs (P, 2)."""
    angles = torch.atan2(frequencies[:, 1], frequencies[:, 0]) % math.pi
    return frequencies.norm(dim=-1), angles


def test_each_has_its_twin():
    for name in ("mixed", "spiral"):
        rope, gta = POSENCS[f"rope-{name}"], POSENCS[f"gta-{name}"]
        assert (rope.rotated, gta.rotated) == (("qk",), ("qk", "vo")) and rope.__bases__ == gta.__bases__


@pytest.mark.parametrize("width", [128, 144])
def test_spiral_pairs_lie_along_four_directions(width):
    """Each frequency occurs twice, in perpendicular directions, and each pair turns by (i cos + j sin) w of its group."""
    (frequencies,) = frequencies_of("rope-spiral", width)
    speeds, angles = groups_of(frequencies)
    count = width // 2 // 4
    ladder = 1.5 * 10000 ** (-torch.arange(count).double() / count)
    assert torch.allclose(speeds.sort().values, ladder.repeat(2).sort().values)
    eighths = angles / (math.pi / 4)
    assert torch.allclose(eighths, eighths.round(), atol=1e-9) and set(eighths.round().tolist()) == {
        0,
        1,
        2,
        3,
    }
    first, second = frequencies.unflatten(0, (-1, 2)).unbind(1)
    assert torch.allclose((first * second).sum(-1), torch.zeros(count).double(), atol=1e-12)
    # Dealt out two by two: the two fastest lie along the axes, the next two along the diagonals.
    assert [round(float(angle) / (math.pi / 4)) for angle in angles[:8]] == [0, 2, 0, 2, 1, 3, 1, 3]


def test_a_spiral_grid_turned_by_90_degrees_permutes_groups_up_to_sign():
    (frequencies,) = frequencies_of("rope-spiral")
    turned = torch.stack([frequencies[:, 1], -frequencies[:, 0]], dim=-1)
    for one in turned:
        same = (frequencies - one).norm(dim=-1) < 1e-12
        opposite = (frequencies + one).norm(dim=-1) < 1e-12
        assert (same | opposite).sum() == 1


def test_a_spiral_is_relative_in_the_corners_too():
    """The angle between two tokens is that of their difference, wherever they lie."""
    encoding = POSENCS["rope-spiral"](5, 7, 128, 2)
    cos, sin = encoding.rotation_table()[0, :, 0].unflatten(0, (5, 7)).unbind(-1)
    corner = cos[4, 6] * cos[2, 1] + sin[4, 6] * sin[2, 1]
    assert torch.allclose(corner, cos[2, 5], atol=1e-6)


def test_another_base_of_a_spiral():
    (frequencies,) = frequencies_of("gta-spiral", base=100.0)
    assert float(frequencies.norm(dim=-1).min()) == pytest.approx(1.5 * 100 ** (-15 / 16))
