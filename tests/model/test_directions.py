"""Rotations along many directions have the properties that define them."""

import math

import pytest
import torch

from ditgta import DiT, config
from ditgta.model.positional import POSENCS


def frequencies_of(name, width=128, heads=2, rows=16, columns=16, **options):
    """Returns (H or 1, P, 2)."""
    return POSENCS[name](rows, columns, width, heads, **options).frequencies()[0]


def groups_of(frequencies):
    """Returns the speeds and directions, 0 <= angle < pi, of pairs (P, 2)."""
    angles = torch.atan2(frequencies[:, 1], frequencies[:, 0]) % math.pi
    return frequencies.norm(dim=-1), angles


def test_each_has_its_record():
    for name in ("mixed", "spiral", "golden"):
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
    assert eighths.round()[:16].tolist() == 2 * [0, 2, 0, 2, 1, 3, 1, 3]


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


def test_golden_directions_differ_by_the_golden_angle_over_heads_and_pairs():
    frequencies = frequencies_of("rope-golden", 768, 12)
    assert frequencies.shape == (12, 32, 2)
    angles = torch.atan2(frequencies[..., 1], frequencies[..., 0]).flatten()
    steps = angles.diff() % math.pi
    assert torch.allclose(steps, torch.tensor(math.pi * (math.sqrt(5) - 1) / 2 % math.pi).double(), atol=1e-6)
    # No direction is left out: what frequencies of one length would add up to is the same along all.
    directions = frequencies / frequencies.norm(dim=-1, keepdim=True)
    total = torch.einsum("hpa,hpb->ab", directions, directions) / (12 * 32 / 2)
    assert torch.allclose(total, torch.eye(2).double(), atol=0.02)


@pytest.mark.parametrize("grid", [(16, 16), (8, 24)])
def test_golden_speeds_rise_from_02_to_20_over_places_between_minus_one_and_one(grid):
    frequencies = frequencies_of("gta-golden", 768, 12, *grid)
    speeds = frequencies.norm(dim=-1) * max(grid) / 2
    expected = 0.2 * 100 ** (torch.arange(32).double() / 31)
    assert torch.allclose(speeds, expected.expand(12, 32))


@pytest.mark.parametrize("posenc", ["rope-golden", "gta-golden"])
def test_golden_frequencies_have_no_base(posenc):
    for build in (
        lambda: DiT.from_name("DiT-S/2", 64, posenc, rotary_base=100.0),
        lambda: config.Model(posenc=posenc, rotary_base=100.0),
    ):
        with pytest.raises(
            ValueError, match=f"posenc {posenc} has no base, so it takes no rotary_base; leave it out"
        ):
            build()
