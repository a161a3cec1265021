"""Biases of the logits have the properties that define them."""

import pytest
import torch

from ditgta.model.positional import POSENCS


def alibi(rows=5, columns=7, heads=4):
    return (
        POSENCS["alibi"](rows, columns, 8 * heads, heads)
        .bias_table()[0]
        .unflatten(2, (rows, columns))
        .unflatten(1, (rows, columns))
    )


def test_alibi_falls_with_distance_at_a_slope_of_each_head():
    table = alibi()
    assert table.shape == (4, 5, 7, 5, 7) and table.dtype == torch.float32
    for head, slope in enumerate((1 / 4, 1 / 16, 1 / 64, 1 / 256)):
        assert table[head, 2, 3, 2, 3] == 0
        assert table[head, 0, 0, 3, 4] == pytest.approx(-5 * slope)
    distances = torch.tensor([[((i - 1) ** 2 + (j - 2) ** 2) ** 0.5 for j in range(7)] for i in range(5)])
    order = distances.flatten().argsort()
    for head in table:
        assert (head[1, 2].flatten()[order].diff() <= 0).all()


def test_alibi_is_the_same_for_a_moved_grid():
    table = alibi()
    assert torch.equal(table[:, 1, 2, :3, :4], table[:, 3, 5, 2:5, 3:7])


def test_a_fixed_bias_is_kept_and_one_for_all_blocks():
    encoding = POSENCS["alibi"](4, 6, 16, 2, 3)
    encoding.keep_tables()
    assert {tables.bias.data_ptr() for tables in encoding.tables()} == {encoding.kept_bias.data_ptr()}
