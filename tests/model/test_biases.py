"""Biases of the logits have the properties that define them."""

import pytest
import torch

from ditgta.model.positional import POSENCS
from tests.model.test_every_encoding import answer, built


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


def learned(depth=3, rows=4, columns=6, heads=2):
    encoding = POSENCS["bias"](rows, columns, 8 * heads, heads, depth)
    with torch.no_grad():
        encoding.bias.normal_(generator=torch.Generator().manual_seed(0))
    return encoding


def test_a_learned_bias_is_that_of_the_offset_of_key_from_query():
    encoding = learned()
    assert encoding.bias.shape == (3, 2, 7, 11)
    for block, table in enumerate(encoding.bias_table()):
        assert table.shape == (2, 24, 24) and table.is_contiguous()
        for query in ((0, 0), (3, 5), (1, 4)):
            for key in ((0, 0), (2, 1), (3, 5)):
                di, dj = key[0] - query[0], key[1] - query[1]
                found = table[:, query[0] * 6 + query[1], key[0] * 6 + key[1]]
                assert torch.equal(found, encoding.bias[block, :, 3 + di, 5 + dj])


def test_blocks_ask_for_learned_biases_one_by_one():
    """No more than one block's table stands in memory where no gradient needs it."""
    encoding = learned()
    encoding.keep_tables()
    assert encoding.kept_bias is None
    tables = encoding.tables()
    assert torch.equal(next(tables).bias, encoding._of_tokens(encoding.bias[0]))
    assert len(list(tables)) == 2


def test_a_fixed_bias_is_kept_and_one_for_all_blocks():
    encoding = POSENCS["alibi"](4, 6, 16, 2, 3)
    encoding.keep_tables()
    assert {tables.bias.data_ptr() for tables in encoding.tables()} == {encoding.kept_bias.data_ptr()}


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_bias_of_zeros_is_no_encoding_bit_for_bit(kind):
    biased, none = built("bias"), built("none")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
        biased.encoding.bias.zero_()
        assert torch.equal(answer(biased), answer(none))


def test_every_offset_that_occurs_has_a_gradient():
    model = built("bias").train()
    answer(model).square().mean().backward()
    assert model.encoding.bias.grad.abs().min() > 0


def test_the_biases_of_dit_b_2():
    with torch.device("meta"):
        encoding = POSENCS["bias"](16, 16, 768, 12, 12)
    assert sum(parameter.numel() for parameter in encoding.parameters()) == 138_384
