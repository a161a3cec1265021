"""Networks at another size: tables as written out, on oblong grids, and what cannot be is refused in one line."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ditgta import DiT
from ditgta.config.names import POSITIONS, RESIZINGS
from ditgta.kernels import for_inference
from ditgta.kernels.cpu import multiplies
from ditgta.model.positional import POSENCS, AbsoluteEncoding
from ditgta.model.positional.places import Places
from ditgta.model.resizing import resized
from ditgta.runtime.streams import generator
from tests.model.test_every_encoding import answer, built

TRAINED, GRID = (4, 6), (6, 18)  # rows grow by 1.5, columns by 3
OF_TRAINED = (
    "rope-golden",
    "gta-golden",
    "liere",
)  # what they say of a place depends on the grid of training
WIDTH, HEADS = 64, 2  # head width 32: 8 frequencies an axis


def encoding_of(posenc, method="extrapolate", grid=GRID, trained=TRAINED, **options):
    encoding = POSENCS[posenc](*trained, WIDTH, HEADS, 2, **options)
    random = generator(0, "test", posenc)
    with torch.no_grad():
        for name, parameter in encoding.named_parameters():
            parameter.copy_(encoding.initial(name, random))
        for parameter in encoding.parameters():
            if not parameter.any():  # what starts at zero says nothing
                parameter.copy_(torch.from_numpy(random.standard_normal(parameter.shape)))
    encoding.resize(*grid, method)
    return encoding


def seen(method, grid=GRID, trained=TRAINED):
    """What a token at (i, j) is told: two arrays over the tokens, row by row."""
    places = np.array([(i, j) for i in range(grid[0]) for j in range(grid[1])], dtype=float)
    if method == "interpolate":
        ratio = np.array(grid) / np.array(trained)
        places = (places + 0.5) / ratio - 0.5
    return places.T


def written_angles(frequencies, method, grid=GRID):
    """i f_0 + j f_1 of every token (T) and pair (P), by the method, from frequencies (P, 2) as in training."""
    f = np.asarray(frequencies, dtype=float)
    if method == "parts":
        turns = np.hypot(f[:, 0] * TRAINED[0], f[:, 1] * TRAINED[1]) / (2 * np.pi)
        kept = np.clip((turns - 0.25) / 0.75, 0, 1)
        counted, laid_over = (written_angles(f, name, grid) for name in ("extrapolate", "interpolate"))
        return kept * counted + (1 - kept) * laid_over
    rows, columns = seen(method, grid)
    return rows[:, None] * f[:, 0] + columns[:, None] * f[:, 1]


def written_ladders(base, count, method, grid=GRID):
    """Frequencies of rows and of columns."""
    k = np.arange(count)
    bases = [base, base]
    if method == "ntk":
        d = 2 * count
        bases = [base * (new / old) ** (d / (d - 2)) for new, old in zip(grid, TRAINED)]
    return [each ** (-k / count) for each in bases]


def close(found, expected):
    return np.allclose(np.asarray(found), expected, atol=2e-6)


@pytest.mark.parametrize("grid", [GRID, (2, 3), (6, 4), (4, 12)])
@pytest.mark.parametrize("method", POSITIONS)
@pytest.mark.parametrize("posenc, base", [("rope", 10000.0), ("gta", 100.0), ("vo", 10000.0)])
def test_rotations_along_the_axes(posenc, base, method, grid):
    options = {} if base == 10000.0 else {"base": base}
    table = encoding_of(posenc, method, grid, **options).rotation_table()[0, :, 0]
    by_row, by_column = written_ladders(base, 8, method, grid)
    frequencies = np.zeros((16, 2))
    frequencies[0::2, 0], frequencies[1::2, 1] = by_row, by_column
    angles = written_angles(frequencies, method, grid)
    assert close(table[..., 0], np.cos(angles)) and close(table[..., 1], np.sin(angles))


@pytest.mark.parametrize("grid", [GRID, (2, 3), (6, 4)])
@pytest.mark.parametrize("method", POSITIONS)
def test_the_absolute_table(method, grid):
    table = encoding_of("abs", method, grid).position_table()
    by_row, by_column = written_ladders(10000.0, 16, method, grid)
    zero = np.zeros(16)
    columns = written_angles(np.stack([zero, by_column], 1), method, grid)
    rows = written_angles(np.stack([by_row, zero], 1), method, grid)
    assert close(table, np.concatenate([np.sin(columns), np.cos(columns), np.sin(rows), np.cos(rows)], 1))


@pytest.mark.parametrize("method", ["extrapolate", "interpolate", "parts"])
@pytest.mark.parametrize("posenc", ["rope-mixed", "gta-mixed", "rope-spiral", "gta-golden"])
def test_rotations_in_any_direction(posenc, method):
    """The frequencies are those of training: golden's too, which follow from the side of its grid."""
    before = POSENCS[posenc](*TRAINED, WIDTH, HEADS, 2)
    encoding = encoding_of(posenc, method)
    before.load_state_dict(encoding.state_dict())
    table, frequencies = encoding.rotation_table().detach(), before.frequencies().detach()
    for block in range(len(frequencies)):
        for head in range(frequencies.shape[1]):
            angles = written_angles(frequencies[block, head], method)
            found = table[block, :, head]
            assert close(found[..., 0], np.cos(angles)) and close(found[..., 1], np.sin(angles))


def test_ntk_slows_the_slowest_frequency_by_the_ratio_and_the_fastest_not_at_all():
    by_row, by_column = encoding_of("rope", "ntk").places.ladders(10000.0, 8).unbind(1)
    before = 10000.0 ** (-np.arange(8) / 8)
    for found, ratio in ((by_row, 1.5), (by_column, 3.0)):
        assert found[0] == 1 and float(found[-1]) == pytest.approx(before[-1] / ratio)
    twice = Places(32, 32, (16, 16), "ntk").ladders(10000.0, 16)  # of head width 64
    assert torch.allclose(twice[:, 0], (10000 * 2.0945) ** (-torch.arange(16).double() / 16), rtol=1e-4)


def test_parts_keep_fast_pairs_and_interpolate_slow_ones():
    by_parts, extrapolated, interpolated = (
        encoding_of("rope", method).places.angles(encoding_of("rope").frequencies())[:, 0, 0]
        for method in ("parts", "extrapolate", "interpolate")
    )
    # Pairs 0, 1 make 4/(2 pi) and 6/(2 pi) turns: less than one and nearly one; of base 10000 the others soon less than 1/4.
    assert torch.equal(by_parts[:, 4:], interpolated[:, 4:])
    for pair, turns in ((0, 4 / (2 * math.pi)), (1, 6 / (2 * math.pi))):
        share = (turns - 0.25) / 0.75
        mean = share * extrapolated[:, pair] + (1 - share) * interpolated[:, pair]
        assert 0.5 < share < 1 and torch.allclose(by_parts[:, pair], mean)
    fast = torch.tensor([[10.0, 0.0], [0.0, 7.0], [3.0, 3.0]])
    places = [encoding_of("rope", method).places for method in ("parts", "extrapolate")]
    assert torch.equal(places[0].angles(fast), places[1].angles(fast))


def cubic(x, a=-0.75):
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def spread(new, old):
    """The matrix (new, old) of cubic convolution along one axis, ends repeated."""
    matrix = np.zeros((new, old))
    for i in range(new):
        place = (i + 0.5) * old / new - 0.5
        for k in range(math.floor(place) - 1, math.floor(place) + 3):
            matrix[i, min(max(k, 0), old - 1)] += cubic(place - k)
    return matrix


def test_a_learned_table_is_laid_over_the_new_grid():
    before = POSENCS["abs-learned"](*TRAINED, WIDTH, HEADS)
    torch.nn.init.normal_(before.table, generator=torch.Generator().manual_seed(0))
    table = before.table.detach().double().numpy().reshape(*TRAINED, WIDTH)
    expected = np.einsum(
        "ir,jc,rcd->ijd", spread(GRID[0], TRAINED[0]), spread(GRID[1], TRAINED[1]), table
    ).reshape(-1, WIDTH)
    before.resize(*GRID, "interpolate")
    assert np.allclose(before.position_table().detach(), expected, atol=1e-5)


@pytest.mark.parametrize("method", ["extrapolate", "interpolate"])
def test_rotations_by_matrices(method):
    """R = exp(i A_1 + j A_2) with places as shares of the grid of training."""
    encoding = encoding_of("liere", method)
    table, upper = encoding.rotation_table().detach(), encoding.upper.detach().double()
    rows, columns = seen(method)
    above = torch.triu_indices(8, 8, offset=1)
    for block, head, group, token in ((0, 0, 0, 5), (1, 1, 3, 77), (0, 1, 2, 107)):
        angle = torch.zeros(8, 8, dtype=torch.float64)
        for entries, share in ((upper[0], rows[token] / 3), (upper[1], columns[token] / 5)):
            turned = torch.zeros(8, 8, dtype=torch.float64)
            turned[above[0], above[1]] = entries[block, 0, head, group]
            angle += share * (turned - turned.T)
        assert torch.allclose(table[block, token, head, group].double(), torch.matrix_exp(angle), atol=2e-4)


@pytest.mark.parametrize("method", ["extrapolate", "interpolate"])
def test_biases_of_distances(method):
    table = encoding_of("alibi", method).bias_table()[0]
    rows, columns = seen(method)
    distances = np.hypot(rows[:, None] - rows, columns[:, None] - columns)
    for head, slope in enumerate((2.0**-4, 2.0**-8)):
        assert np.allclose(table[head], -slope * distances, atol=1e-5)


@pytest.mark.parametrize("grid", [GRID, (2, 3), (6, 4)])
def test_learned_biases_are_read_at_smaller_offsets(grid):
    before = POSENCS["bias"](*TRAINED, WIDTH, HEADS, 2)
    torch.nn.init.normal_(before.bias, generator=torch.Generator().manual_seed(0))
    bias = before.bias.detach().double().numpy()
    before.resize(*grid, "interpolate")
    table = torch.stack(list(before.bias_table())).detach()

    def read(axis):
        """The matrix (new offsets, old offsets) of cubic convolution at d / ratio, ends repeated."""
        new, old = grid[axis], TRAINED[axis]
        matrix = np.zeros((2 * new - 1, 2 * old - 1))
        for k, offset in enumerate(range(1 - new, new)):
            place = offset * old / new + old - 1
            for near in range(math.floor(place) - 1, math.floor(place) + 3):
                matrix[k, min(max(near, 0), 2 * old - 2)] += cubic(place - near)
        return matrix

    over = np.einsum("ir,jc,lhrc->lhij", read(0), read(1), bias)
    places = [(i, j) for i in range(grid[0]) for j in range(grid[1])]
    for query, (i, j) in enumerate(places):
        for key, (k, m) in enumerate(places):
            expected = over[..., k - i + grid[0] - 1, m - j + grid[1] - 1]
            assert np.allclose(table[:, :, query, key], expected, atol=1e-5)


@pytest.mark.parametrize("posenc", POSENCS)
def test_what_encodings_can_is_what_the_configuration_says(posenc):
    able = RESIZINGS.get(posenc, POSITIONS)
    assert encoding_of(posenc, able[0]).resizings == able
    for method in set(POSITIONS) - set(able):
        with pytest.raises(ValueError, match=f"with positions {method}; use {' or '.join(able)}$"):
            encoding_of(posenc, method)


@pytest.mark.parametrize("posenc", POSENCS)
@pytest.mark.parametrize("image_size", [(64, 96), (96, 64), (128, 96), (32, 240), (32, 48)])
def test_a_network_at_another_size(posenc, image_size):
    """It answers as one that is built for that size with the same weights does, where no weight follows from the size."""
    network = built(posenc)  # of 64 x 96 pixels
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    size = tuple(side // 8 for side in image_size)
    method = RESIZINGS.get(posenc, POSITIONS)[0]
    other = resized(network, size, method, "1")
    assert other.config == dataclasses.replace(network.config, latent_size=size)
    assert other is network if image_size == (64, 96) else other.config.grid == (size[0] // 2, size[1] // 2)
    with torch.no_grad():
        found = answer(other)
        assert found.shape == (3, 8, *size) and found.isfinite().all()
        if method == "extrapolate" and posenc not in OF_TRAINED:
            wanted = built(posenc, image_size)
            wanted.load_state_dict(
                {name: tensor for name, tensor in network.state_dict().items() if name != "pos_embed"},
                strict=False,
            )
            assert torch.equal(found, answer(wanted))
        plain, quick = (answer(for_inference(other, kernels=kernels)[0]) for kernels in ("off", "auto"))
    assert (plain - found).norm() < 1e-5 * found.norm() and (quick - found).norm() < 1e-5 * found.norm()
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())
    shared = {id(parameter) for parameter in network.parameters()}
    own = [name for name, parameter in other.named_parameters() if id(parameter) not in shared]
    assert all(name.startswith("encoding.") for name in own)


@torch.no_grad()
@pytest.mark.parametrize("posenc", ["abs", "rope", "gta", "abs-learned"])
def test_every_method_gives_another_answer(posenc):
    network = built(posenc)
    answers = [answer(resized(network, (16, 20), method)) for method in RESIZINGS.get(posenc, POSITIONS)]
    assert all((answers[i] - answers[j]).norm() > 1e-3 for i in range(len(answers)) for j in range(i))


@torch.no_grad()
def test_an_added_table_is_moved_along():
    network = built("rope", absolute_table=True)
    for method in POSITIONS:
        other, table = resized(network, (16, 20), method), AbsoluteEncoding(4, 6, 144, 2)
        table.resize(8, 10, method)
        assert torch.equal(other.pos_embed[0], table.position_table())
    assert network.pos_embed.shape == (1, 24, 144)


def scales_of(network, monkeypatch):
    """The scales with which a network's pass calls attention."""
    found, attend = [], F.scaled_dot_product_attention

    def watched(*arguments, **options):
        found.append(options.get("scale"))
        return attend(*arguments, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    with torch.no_grad():
        answer(network)
    return found


@pytest.mark.parametrize("kernels", ["off", "auto"])
def test_temperature_is_on_the_logits_and_in_no_table(monkeypatch, kernels):
    network = built("gta")
    warm, plain = (resized(network, (16, 24), "extrapolate", name) for name in ("log", "1"))
    expected = math.sqrt(math.log(96) / math.log(24)) / math.sqrt(72)
    found = scales_of(for_inference(warm, kernels=kernels)[0], monkeypatch)
    assert found == pytest.approx([expected] * 2)
    assert set(scales_of(plain, monkeypatch)) == {None} == set(scales_of(network, monkeypatch))
    for one, other in zip(warm.encoding.tables(), plain.encoding.tables()):
        assert torch.equal(one.rotation, other.rotation)
    # The same with queries scaled by hand, in front of an attention of E^(-1/2).
    q, k, v = torch.randn(3, 2, 96, 2, 72).unbind(0)
    hand = plain.blocks[0].attn.attend(q * math.sqrt(math.log(96) / math.log(24)), k, v)
    assert torch.allclose(warm.blocks[0].attn.attend(q, k, v), hand, atol=1e-5)


@pytest.mark.slow
def test_a_compiled_network_at_another_size():
    warm = resized(built("gta"), (16, 20), "parts", "log")
    compiled = for_inference(warm, compile=True)[0]
    with torch.no_grad():
        expected, found = answer(warm), answer(compiled)
    assert (found - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.skipif(not multiplies(torch.bfloat16), reason="this CPU has no such kernel")
def test_temperature_in_the_kernel_for_bf16():
    warm = resized(built("gta"), (16, 24), "extrapolate", "log")
    quick = for_inference(warm, torch.bfloat16, "auto")[0]
    q, k, v = torch.randn(3, 2, 96, 2, 72).unbind(0)
    expected = warm.blocks[0].attn.attend(q, k, v)
    found = quick.blocks[0].attn.attend(*(x.bfloat16() for x in (q, k, v))).float()
    assert (found - expected).norm() < 0.02 * expected.norm()


def test_fewer_tokens_are_cooler_and_transposed_ones_the_same():
    network = built("rope")
    assert resized(network, (8, 6), temperature="log").blocks[0].attn.scale < 72**-0.5
    assert resized(network, (12, 8), temperature="log").blocks[0].attn.scale is None


def test_what_cannot_be_is_refused():
    for posenc, options, message in [
        (
            "abs-learned",
            {},
            "posenc abs-learned cannot be sampled at another size with positions extrapolate",
        ),
        (
            "rope-mixed",
            {"positions": "ntk"},
            "posenc rope-mixed cannot be .* use extrapolate or interpolate or parts",
        ),
        ("none", {"positions": "ntk"}, "posenc none cannot be sampled at another size with positions ntk"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            resized(built(posenc), (16, 24), **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="cannot be cut into patches"):
        resized(built("rope"), (15, 24))
    strange = built("abs")
    strange.pos_embed += 0.1
    with pytest.raises(ValueError, match="posenc abs has a table that differs from its formula"):
        resized(strange, (16, 24))
    with pytest.raises(ValueError, match="was trained on one token"):
        resized(built("rope", (16, 16)), (16, 24), temperature="log")
    narrow = DiT.from_name("DiT-S/2", 64, "rope", 5, depth=1, width=8, heads=2)
    with pytest.raises(ValueError, match="ntk needs two frequencies per axis"):
        resized(narrow, (16, 16), "ntk")
