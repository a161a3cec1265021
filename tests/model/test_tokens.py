"""Encodings that change tokens have the properties that define them."""

import torch

from ditgta.model.positional import POSENCS
from tests.model.test_every_encoding import answer, built


def peg(rows=6, columns=8, width=16):
    return POSENCS["none-conv"](rows, columns, width, 2)


def test_a_kernel_of_zeros_is_no_encoding_bit_for_bit_and_training_starts_with_it():
    model, none = built("none-conv"), built("none")
    with torch.no_grad():
        for name, parameter in model.encoding.named_parameters():
            parameter.copy_(model.encoding.initial(name, None))
        assert torch.equal(answer(model), answer(none))


@torch.no_grad()
def test_the_kernel_moves_with_the_tokens_inside_and_not_at_the_border():
    encoding, x = peg(), torch.randn(1, 6, 8, 16)
    moved = x.roll((1, 2), (1, 2))
    out, out_moved = (
        encoding.after_first_block(each.flatten(1, 2)).unflatten(1, (6, 8)) for each in (x, moved)
    )
    inside, inside_moved = out[:, 1:4, 1:5], out_moved[:, 2:5, 3:7]
    assert torch.allclose(inside, inside_moved, atol=1e-6)
    assert (out[:, 0, 0] - out_moved[:, 1, 2]).norm() > 0.1


@torch.no_grad()
def test_each_channel_sees_its_own_neighbours_alone():
    encoding, x = peg(), torch.zeros(1, 6, 8, 16)
    x[0, 2, 3, 5] = 1
    change = (encoding.after_first_block(x.flatten(1, 2)) - x.flatten(1, 2)).unflatten(1, (6, 8))[0]
    change = change - encoding.conv.bias
    assert change.abs().sum(-1).nonzero().tolist() == [[i, j] for i in (1, 2, 3) for j in (2, 3, 4)]
    assert change.abs().sum((0, 1)).nonzero().tolist() == [[5]]
    assert torch.allclose(change[1:4, 2:5, 5], encoding.conv.weight[5, 0].flip(0, 1), atol=1e-6)


def test_the_kernel_of_dit_b_2():
    assert sum(parameter.numel() for parameter in peg(16, 16, 768).parameters()) == 7_680
