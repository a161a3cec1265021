"""The whole network once more, literally from its formulas in float64 NumPy, and the model held against it."""

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy.linalg import block_diag, expm

from ditgta import DiT
from tests.golden.dit.recipe import fill, inputs


def rotated_by(posenc):
    """Returns what an encoding rotates: "qk", "vo", both in one word, or ""."""
    return {"rope": "qk", "liere": "qk", "vo": "vo", "gta": "qkvo"}.get(posenc.split("-")[0], "")


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def modulated(x, shift, scale):
    """LayerNorm without parameters of every token, then x (1 + scale) + shift."""
    centred = x - x.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return normed * (1 + scale) + shift


def rms_normed(x, gain):
    return gain * x / (np.linalg.norm(x, axis=-1, keepdims=True) / math.sqrt(x.shape[-1]) + 1e-8)


def absolute_table(places, width):
    table = []
    for i, j in places:
        row = []
        for coordinate in (j, i):
            angles = [coordinate * 10000 ** (-k / (width // 4)) for k in range(width // 4)]
            row += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
        table.append(row)
    return np.array(table)


def frequency(pair, options, weights, block, head):
    """Returns by how much one pair of channels turns per row and per column."""
    posenc, count = options["posenc"], options["width"] // options["heads"] // 4
    if posenc.endswith("-mixed"):
        return weights["encoding.theta"][block, head, pair]
    if posenc.endswith("-golden"):
        angle = (head * 2 * count + pair) * math.pi * (math.sqrt(5) - 1) / 2
        speed = 0.2 * (20 / 0.2) ** (pair / (2 * count - 1)) / 3  # places between -1 and 1 over 6 tokens
        return speed * math.cos(angle), speed * math.sin(angle)
    m, across = pair // 2, pair % 2
    speed = (options["rotary_base"] or 10000) ** (-m / count)
    if posenc.endswith("-spiral"):
        angle = math.pi * (m // 2 % 2) / 4 + math.pi / 2 * across
        return 1.5 * speed * math.cos(angle), 1.5 * speed * math.sin(angle)
    return (0, speed) if across else (speed, 0)


def exponential(place, upper):
    """exp(i' A_1 + j' A_2) of 8 channels, whose entries above the diagonals of A_1 and A_2 are given row by row: upper (2, 28)."""
    scaled = np.array(place) / (3, 5)  # to 0..1 over 4 x 6 tokens
    above = np.zeros((8, 8))
    above[np.triu_indices(8, 1)] = scaled @ upper
    return expm(above - above.T)


def rotation_matrix(place, options, weights, block, head):
    """R of one token for one head: a 2 x 2 rotation per channel pair, or exponentials of 8 x 8 matrices."""
    head_width = options["width"] // options["heads"]
    if options["posenc"] == "liere":
        return block_diag(
            *(
                exponential(place, upper)
                for upper in weights["encoding.upper"][:, block, 0, head].swapaxes(0, 1)
            )
        )
    matrix = np.zeros((head_width, head_width))
    for pair in range(head_width // 2):
        per_row, per_column = frequency(pair, options, weights, block, head)
        angle = place[0] * per_row + place[1] * per_column
        a, b = 2 * pair, 2 * pair + 1
        matrix[a, a] = matrix[b, b] = math.cos(angle)
        matrix[b, a] = math.sin(angle)
        matrix[a, b] = -math.sin(angle)
    return matrix


def maps(weights, block, head):
    """Returns M = U S V^T and its transposed inverse."""
    u, v = (expm(skew - skew.T) for skew in weights["encoding.skew"][:, block, head])
    matrix = u @ np.diag(np.log1p(np.exp(weights["encoding.scale"][block, head]))) @ v.T
    return matrix, np.linalg.inv(matrix).T


def bias(query, key, options, weights, block, head):
    """Returns what is added to the logit of a query and a key at two places."""
    di, dj = key[0] - query[0], key[1] - query[1]
    if options["posenc"] == "alibi":
        return -(2 ** (-8 * (head + 1) / options["heads"])) * math.hypot(di, dj)
    if options["posenc"] == "bias":
        return weights["encoding.bias"][block, head, di + 3, dj + 5]  # of 4 x 6 tokens
    return 0.0


def attention(x, weights, number, options, places):
    block, heads, width = f"blocks.{number}", options["heads"], options["width"]
    head_width, rotated = width // heads, rotated_by(options["posenc"])
    q, k, v = np.split(linear(x, weights, f"{block}.attn.qkv"), 3, axis=1)
    merged = np.zeros((len(places), width))
    for head in range(heads):
        own = slice(head * head_width, (head + 1) * head_width)
        q_h, k_h, v_h = q[:, own], k[:, own], v[:, own]
        if options["qk_norm"]:
            q_h = rms_normed(q_h, weights[f"{block}.attn.q_norm.scale"])
            k_h = rms_normed(k_h, weights[f"{block}.attn.k_norm.scale"])
        if options["posenc"] == "rope-harope":
            mapped, mapped_keys = maps(weights, number, head)
            q_h, k_h = q_h @ mapped.T, k_h @ mapped_keys.T
        if rotated:
            turns = [rotation_matrix(place, options, weights, number, head) for place in places]
        if "qk" in rotated:
            q_h, k_h = ([turn @ row for turn, row in zip(turns, rows)] for rows in (q_h, k_h))
        if "vo" in rotated:
            v_h = [turn @ row for turn, row in zip(turns, v_h)]
        for token, query in enumerate(q_h):
            scores = np.array([query @ key for key in k_h]) / math.sqrt(head_width)
            scores = scores + [bias(places[token], place, options, weights, number, head) for place in places]
            shares = np.exp(scores - scores.max())
            output = sum(share * value for share, value in zip(shares / shares.sum(), v_h))
            merged[token, own] = turns[token].T @ output if "vo" in rotated else output
    return linear(merged, weights, f"{block}.attn.proj")


def convolved(tokens, places, weights):
    """Returns the sum of the 3 x 3 tokens around each, weighted channel by channel; there is nothing beyond the border."""
    kernel, sums = weights["encoding.conv.weight"], np.zeros_like(tokens)
    for token, (i, j) in enumerate(places):
        sums[token] = weights["encoding.conv.bias"]
        for a in (-1, 0, 1):
            for b in (-1, 0, 1):
                if (i + a, j + b) in places:
                    sums[token] += kernel[:, 0, a + 1, b + 1] * tokens[places.index((i + a, j + b))]
    return sums


def literal(weights, options, x, t, y):
    """Returns what the network says of one latent x (C, h, w) at timestep t with label y: (2C, h, w)."""
    p, (h, w), channels = options["patch"], options["latent_size"], options["latent_channels"]
    places = [(i, j) for i in range(h // p) for j in range(w // p)]
    patches = np.array([x[:, i * p : (i + 1) * p, j * p : (j + 1) * p].ravel() for i, j in places])
    kernel = weights["x_embedder.proj.weight"].reshape(options["width"], -1)
    tokens = patches @ kernel.T + weights["x_embedder.proj.bias"]
    if options["posenc"] == "abs" or options["absolute_table"]:
        tokens = tokens + absolute_table(places, options["width"])
    if options["posenc"] == "abs-learned":
        tokens = tokens + weights["encoding.table"]

    angles = [t * math.exp(-math.log(10000) * k / 128) for k in range(128)]
    waves = np.array([math.cos(angle) for angle in angles] + [math.sin(angle) for angle in angles])
    time = linear(silu(linear(waves, weights, "t_embedder.mlp.0")), weights, "t_embedder.mlp.2")
    condition = silu(time + weights["y_embedder.embedding_table.weight"][y])

    for number in range(options["depth"]):
        block = f"blocks.{number}"
        parts = np.split(linear(condition, weights, f"{block}.adaLN_modulation.1"), 6)
        shift, scale, gate = parts[:3]
        tokens = tokens + gate * attention(modulated(tokens, shift, scale), weights, number, options, places)
        shift, scale, gate = parts[3:]
        hidden = gelu(linear(modulated(tokens, shift, scale), weights, f"{block}.mlp.fc1"))
        tokens = tokens + gate * linear(hidden, weights, f"{block}.mlp.fc2")
        if number == 0 and options["posenc"] == "none-conv":
            tokens = tokens + convolved(tokens, places, weights)

    shift, scale = np.split(linear(condition, weights, "final_layer.adaLN_modulation.1"), 2)
    values = linear(modulated(tokens, shift, scale), weights, "final_layer.linear")
    output = np.zeros((2 * channels, h, w))
    for (i, j), row in zip(places, values):
        for a in range(p):
            for b in range(p):
                start = (a * p + b) * 2 * channels
                output[:, i * p + a, j * p + b] = row[start : start + 2 * channels]
    return output


CASES = [{"posenc": name} for name in ("abs", "none", "rope", "vo", "gta")]
MORE = [
    {"posenc": "abs-learned"},
    {"posenc": "rope-mixed"},
    {"posenc": "gta-mixed", "absolute_table": True},
    {"posenc": "rope", "rotary_base": 100.0},
    {"posenc": "gta", "rotary_base": 100.0, "absolute_table": True},
    {"posenc": "none-conv"},
    {"posenc": "alibi"},
    {"posenc": "bias"},
    {"posenc": "liere"},
    {"posenc": "rope-harope", "rotary_base": 100.0},
    {"posenc": "rope-spiral"},
    {"posenc": "gta-spiral", "rotary_base": 100.0},
    {"posenc": "rope-golden"},
    {"posenc": "gta-golden", "absolute_table": True},
]


@pytest.mark.parametrize("qk_norm", [True, False], ids=["qk_norm", "no_qk_norm"])
@pytest.mark.parametrize("case", CASES + MORE, ids=lambda case: "-".join(map(str, case.values())))
def test_the_model_is_its_formulas(case, qk_norm):
    """Head width 72, a latent of 8 x 12 pixels, 3 classes and the null label."""
    model = DiT.from_name(
        "DiT-S/2", (64, 96), num_classes=3, depth=2, width=144, heads=2, qk_norm=qk_norm, **case
    )
    model.load_state_dict(fill(model.state_dict()))
    x, t, _, _ = inputs("literal", 12)
    x, y = x[:, :, :8], torch.tensor([1, 3])
    weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        found = model(x, t, y).double().numpy()
    expected = np.stack(
        [
            literal(weights, asdict(model.config), x[n].double().numpy(), int(t[n]), int(y[n]))
            for n in range(2)
        ]
    )
    assert np.abs(expected).max() > 0.1
    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)
