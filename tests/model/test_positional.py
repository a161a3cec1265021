"""The encodings do to tokens what their equations say."""

import pytest
import torch

from ditgta.model.positional import POSENCS, per_channel, rotate, rotate_back
from ditgta.runtime.streams import generator


def table_of(name, rows=5, columns=7, width=128, heads=2, **options):
    return POSENCS[name](rows, columns, width, heads, **options).rotation_table()[0]


def test_angles_of_the_published_checkpoints():
    table = table_of("gta")[:, 0]  # head width 64: 16 frequencies
    angles = torch.atan2(table[..., 1], table[..., 0])
    assert angles[7][:4].tolist() == pytest.approx([1, 0, 0.56234, 0], abs=1e-5)  # token (1, 0)
    assert angles[1][:4].tolist() == pytest.approx([0, 1, 0, 0.56234], abs=1e-5)  # token (0, 1)
    assert angles[0].abs().max() == 0


def test_another_base_gives_other_frequencies():
    table = table_of("rope", base=100.0)[:, 0]
    angles = torch.atan2(table[..., 1], table[..., 0])
    assert angles[7][:4].tolist() == pytest.approx([1, 0, 100 ** (-1 / 16), 0], abs=1e-5)


def test_rotation_equals_the_matrix_and_back_is_its_transpose():
    pairs = table_of("gta", 2, 3, 16, 2)
    table = per_channel(pairs)
    x = torch.randn(2, 6, 2, 8, dtype=torch.float32)
    for token in range(6):
        matrix = torch.block_diag(*[torch.tensor([[c, -s], [s, c]]) for c, s in pairs[token, 0].tolist()])
        assert torch.allclose(rotate(x, table)[:, token], x[:, token] @ matrix.T, atol=1e-6)
        assert torch.allclose(rotate_back(x, table)[:, token], x[:, token] @ matrix, atol=1e-6)
    assert torch.allclose(rotate_back(rotate(x, table), table), x, atol=1e-6)


def attend(q, k, v, table, name):
    rotated = POSENCS[name].rotated
    if "qk" in rotated:
        q, k = rotate(q, table), rotate(k, table)
    if "vo" in rotated:
        v = rotate(v, table)
    o = torch.nn.functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(
        1, 2
    )
    return rotate_back(o, table) if "vo" in rotated else o


def test_the_four_relative_encodings_differ():
    table = per_channel(table_of("gta", 3, 4, 16, 2))
    q, k, v = torch.randn(3, 1, 12, 2, 8).unbind(0)
    outputs = [attend(q, k, v, table, name) for name in ("none", "rope", "vo", "gta")]
    for i in range(4):
        for j in range(i):
            assert (outputs[i] - outputs[j]).abs().max() > 0.05


def test_absolute_table_has_columns_first_and_sines_first():
    table = POSENCS["abs"](4, 6, 32, 2).position_table()
    assert table.shape == (24, 32)
    token = table[2 * 6 + 5]
    w1 = 10000 ** (-1 / 8)
    expected = [torch.tensor(5.0).sin(), torch.tensor(5 * w1).sin()]
    assert token[:2].tolist() == pytest.approx([float(x) for x in expected], abs=1e-6)
    assert token[8].item() == pytest.approx(torch.tensor(5.0).cos().item(), abs=1e-6)
    assert token[16].item() == pytest.approx(torch.tensor(2.0).sin().item(), abs=1e-6)


def test_gradients_of_a_rotation_are_the_rotation_back():
    table = per_channel(table_of("gta", 2, 2, 8, 1))
    x = torch.randn(1, 4, 1, 8, requires_grad=True)
    upstream = torch.randn(1, 4, 1, 8)
    rotate(x, table).backward(upstream)
    assert torch.allclose(x.grad, rotate_back(upstream, table), atol=1e-6)


def mixed(name="rope-mixed", depth=3, **options):
    encoding = POSENCS[name](4, 6, 64, 2, depth, **options)
    with torch.no_grad():
        encoding.theta.copy_(encoding.initial("theta", generator(0, "test")))
    return encoding


@pytest.mark.parametrize("options, base", [({}, 10), ({"base": 100.0}, 100)])
def test_mixed_frequencies_start_along_turned_axes(options, base):
    """As in the code of its authors: w_k (cos a, sin a) and w_k (-sin a, cos a), with one random angle a per block and head."""
    theta = mixed(**options).theta.detach()
    assert theta.shape == (3, 2, 16, 2) and theta.numel() == 3 * 64
    first, second = theta.unflatten(2, (8, 2)).unbind(3)  # (L, H, 8, 2) each
    falling = base ** (-torch.arange(8) / 8)
    for half in (first, second):
        assert torch.allclose(half.norm(dim=-1), falling.expand(3, 2, 8), rtol=1e-5)
    assert torch.allclose(second, torch.stack([-first[..., 1], first[..., 0]], dim=-1), atol=1e-6)
    angles = torch.atan2(first[..., 1], first[..., 0])
    assert torch.allclose(angles, angles[..., :1].expand_as(angles), atol=1e-5)
    assert angles[..., 0].flatten().sort().values.diff().min() > 1e-3


def test_mixed_angles_add_rows_and_columns():
    encoding = mixed()
    table = encoding.rotation_table()
    assert table.shape == (3, 24, 2, 16, 2)
    theta = encoding.theta[2, 1, 5]
    angle = 3 * theta[0] + 4 * theta[1]  # token (3, 4), block 2, head 1, pair 5
    found = table[2, 3 * 6 + 4, 1, 5]
    assert found.tolist() == pytest.approx([angle.cos().item(), angle.sin().item()], abs=1e-5)


@pytest.mark.parametrize("name", ["rope", "gta"])
def test_mixed_frequencies_along_the_axes_are_the_fixed_ones(name):
    encoding, fixed = mixed(f"{name}-mixed"), POSENCS[name](4, 6, 64, 2)
    assert encoding.rotated == fixed.rotated
    with torch.no_grad():
        encoding.theta.copy_(fixed.frequencies())
    expected = fixed.rotation_table()
    assert torch.allclose(encoding.rotation_table(), expected.expand(3, 24, 2, 16, 2), atol=2e-6)


def test_learned_table_starts_small_and_has_a_row_per_token():
    encoding = POSENCS["abs-learned"](4, 6, 64, 2)
    assert [parameter.shape for parameter in encoding.parameters()] == [(24, 64)]
    start = encoding.initial("table", generator(0, "test"))
    assert float(start.std()) == pytest.approx(0.02, rel=0.05) and abs(float(start.mean())) < 0.002
    assert encoding.position_table() is encoding.table
