"""The encodings do to tokens what their equations say."""

import pytest
import torch

from ditgta.model.positional import POSENCS, rotate, rotate_back


def table_of(name, rows=5, columns=7, width=128, heads=2):
    return POSENCS[name](rows, columns, width, heads).rotation_table()


def test_angles_of_the_published_checkpoints():
    table = table_of("gta")  # head width 64: 16 frequencies
    angles = torch.atan2(table[..., 1], table[..., 0])
    assert angles[7][:4].tolist() == pytest.approx([1, 0, 0.56234, 0], abs=1e-5)  # token (1, 0)
    assert angles[1][:4].tolist() == pytest.approx([0, 1, 0, 0.56234], abs=1e-5)  # token (0, 1)
    assert angles[0].abs().max() == 0


def test_rotation_equals_the_matrix_and_back_is_its_transpose():
    table = table_of("gta", 2, 3, 16, 2)
    x = torch.randn(2, 6, 2, 8, dtype=torch.float32)
    for token in range(6):
        matrix = torch.block_diag(*[torch.tensor([[c, -s], [s, c]]) for c, s in table[token].tolist()])
        assert torch.allclose(rotate(x, table)[:, token], x[:, token] @ matrix.T, atol=1e-6)
        assert torch.allclose(rotate_back(x, table)[:, token], x[:, token] @ matrix, atol=1e-6)
    assert torch.allclose(rotate_back(rotate(x, table), table), x, atol=1e-6)


def attend(q, k, v, table, name):
    encoding = POSENCS[name](1, 1, 16, 2)
    if encoding.rotates("qk"):
        q, k = rotate(q, table), rotate(k, table)
    if encoding.rotates("vo"):
        v = rotate(v, table)
    o = torch.nn.functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(
        1, 2
    )
    return rotate_back(o, table) if encoding.rotates("vo") else o


@pytest.mark.parametrize("name", ["rope", "vo", "gta"])
def test_only_relative_places_matter(name):
    """The grid may be moved as a whole: tokens at (i + 2, j + 3) attend as those at (i, j)."""
    large = POSENCS[name](6, 8, 16, 2).rotation_table().unflatten(0, (6, 8))
    q, k, v = torch.randn(3, 1, 12, 2, 8).unbind(0)
    here, there = large[:3, :4].flatten(0, 1), large[2:5, 3:7].flatten(0, 1)
    assert not torch.allclose(here, there)
    assert torch.allclose(attend(q, k, v, here, name), attend(q, k, v, there, name), atol=1e-5)


def test_the_four_relative_encodings_differ():
    table = table_of("gta", 3, 4, 16, 2)
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
    table = table_of("gta", 2, 2, 8, 1)
    x = torch.randn(1, 4, 1, 8, requires_grad=True)
    upstream = torch.randn(1, 4, 1, 8)
    rotate(x, table).backward(upstream)
    assert torch.allclose(x.grad, rotate_back(upstream, table), atol=1e-6)
