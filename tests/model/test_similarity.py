"""What is shown of encodings: overlaps against written-out matrices, and distances of attention against weights."""

import math

import numpy as np
import pytest
import torch

from ditgta.model.positional import POSENCS, rotate
from ditgta.model.similarity import attention_distances, centre_of, look, uniform_distance
from tests.model.test_every_encoding import answer, built


def of(name, rows=3, columns=5, width=32, heads=2, depth=2):
    encoding = POSENCS[name](rows, columns, width, heads, depth)
    for number, parameter in enumerate(encoding.parameters()):
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(number))
    return encoding


def test_an_overlap_of_a_rotation_is_the_mean_cosine_of_its_angles():
    seen = look(of("gta"))
    speeds = 10000.0 ** (-np.arange(4) / 4)
    for token in range(15):
        down, right = token // 5 - 1, token % 5 - 2  # from the centre, (1, 2)
        expected = np.mean([np.cos(down * speeds), np.cos(right * speeds)])
        assert seen.queries.shape == seen.values.shape == (2, 2, 15)
        assert np.allclose(seen.queries[:, :, token], expected, atol=1e-6)
        assert np.allclose(seen.values[:, :, token], expected, atol=1e-6)


@pytest.mark.parametrize("name", ["liere", "rope-harope", "rope-mixed"])
def test_an_overlap_is_the_mean_product_over_unit_vectors(name):
    """A query and a key that are the same unit vector, drawn at random, through what attention does with them."""
    encoding = of(name)
    seen = look(encoding)
    x = torch.randn(200_000, 1, 1, 16, generator=torch.Generator().manual_seed(0))
    x = (x / x.norm(dim=-1, keepdim=True)).expand(-1, 2, 2, -1)  # the centre and another token, two heads
    for block, tables in enumerate(encoding.tables()):
        pair = (x, x)
        if tables.maps is not None:
            pair = [torch.einsum("bthe,hfe->bthf", x, m) for m in tables.maps]
        query, key = (rotate(each, tables.rotation[[7, 4]]) for each in pair)
        expected = (query[:, 0] * key[:, 1]).sum(-1).mean(0)
        assert torch.allclose(seen.queries[block, :, 4], expected, atol=0.01)


def test_what_is_said_otherwise():
    alibi, absolute, conv, none = (look(of(name)) for name in ("alibi", "abs", "none-conv", "none"))
    assert alibi.bias[0, 0, 0] == pytest.approx(-(2.0**-4) * math.hypot(1, 2)) and alibi.queries is None
    assert absolute.table.argmax() == 7 and absolute.table[7] == pytest.approx(1)
    weight = (
        of("none-conv").conv.weight.mean((0, 1)).flatten()
    )  # taken at the neighbour: turned by 180 degrees
    around = [token for row in (0, 1, 2) for token in range(5 * row + 1, 5 * row + 4)]
    assert torch.allclose(conv.tokens[around], weight.flip(0), atol=1e-6)
    assert none == type(none)((3, 5))


def test_turns_run_from_border_to_border():
    turns = look(of("rope")).turns[0, 0]
    assert torch.allclose(turns[0], torch.tensor([2 / (2 * math.pi), 0]))
    assert torch.allclose(turns[1], torch.tensor([0, 4 / (2 * math.pi)]))


@torch.no_grad()
@pytest.mark.parametrize("name", ["gta", "alibi"])
def test_distances_of_attention(name):
    network = built(name)
    before = answer(network)
    with attention_distances(network) as found:
        assert torch.equal(answer(network), before)
    assert [len(of_block) for of_block in found] == [1, 1] and found[0][0].shape == (2,)
    assert "attend" not in vars(network.blocks[0].attn)
    places = [(i, j) for i in range(4) for j in range(6)]
    expected = np.mean([[math.dist(a, b) for b in places] for a in places])
    assert uniform_distance(4, 6) == pytest.approx(expected)
    # Equal keys: all tokens are attended alike, and a bias towards near ones draws attention in.
    for block in network.blocks:
        block.attn.qkv.weight.zero_()
        block.attn.qkv.bias.zero_()
    with attention_distances(network) as found:
        answer(network)
    near = found[0][0]
    assert torch.allclose(near, torch.full((2,), expected, dtype=near.dtype), atol=1e-4) == (name == "gta")
    assert (near < expected - 1e-3).all() == (name == "alibi")


def test_the_centre_is_in_the_middle():
    assert centre_of(3, 5) == 7 and centre_of(16, 16) == 8 * 16 + 8
