"""Layers with a backward pass of their own give the plain formula's values and gradients."""

import pytest
import torch
import torch.nn.functional as F
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd

from ditgta import DiT
from ditgta.model import layers
from ditgta.model.layers import Attention, RMSNorm, attend, linear, modulation
from ditgta.model.positional import GeometricTransform


def draws(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def plain(monkeypatch):
    """Turns the plain formulas on, as they are used under torch.compile."""
    return lambda: monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)


def outcome(function, *inputs):
    """Returns what a function gives and the gradients of a fixed mixture of it."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    outputs = function(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    mixture = sum((y.float() * draws(*y.shape, seed=i + 1)).sum() for i, y in enumerate(outputs))
    return [*outputs, *torch.autograd.grad(mixture, inputs)]


class Called(torch.nn.Module):
    """A function of a layer as a module, so that the layer can be given other parameters."""

    def __init__(self, layer, function):
        super().__init__()
        self.layer, self.function = layer, function

    def forward(self, x):
        return self.function(self.layer, x)


def attention(qk_norm, rotates_qk, rotates_vo):
    module = Attention(48, 4, qk_norm, rotates_qk, rotates_vo)
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.add_(0.3 * draws(*parameter.shape, seed=number))
    return module


TABLE = GeometricTransform(3, 5, 48, 4).rotation_table()[0]


@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("rotates", [(False, False), (True, False), (False, True), (True, True)])
def test_queries_keys_and_values(plain, qk_norm, rotates):
    module = attention(qk_norm, *rotates)
    inputs = [draws(2, 15, 48), *module.parameters()]

    def split(x, *parameters):
        named = dict(zip([name for name, _ in module.named_parameters()], parameters))
        return torch.func.functional_call(module, named, (x, TABLE if any(rotates) else None))

    ours = outcome(split, *inputs)
    plain()
    for one, other in zip(ours, outcome(split, *inputs), strict=True):
        assert (one - other).norm() <= 2e-6 * other.norm() + 1e-7


def test_a_query_of_zeros_has_a_finite_gradient():
    qkv = draws(1, 2, 3, 1, 8)
    qkv[0, 0] = 0
    gain = torch.ones(8)
    found = outcome(lambda x, g: layers._QueriesKeysValues.apply(x, g, g, None, slice(0)), qkv, gain)
    assert all(x.isfinite().all() for x in found)


@pytest.mark.parametrize("layer", [layers.modulate, lambda x, a, b: layers.add_gated(x, a, x * b[:, None])])
def test_modulation_and_gates(plain, layer):
    inputs = [draws(2, 15, 48, scale=3), draws(2, 48, seed=1), draws(2, 48, seed=2)]
    ours = outcome(layer, *inputs)
    plain()
    for one, other in zip(ours, outcome(layer, *inputs), strict=True):
        assert (one - other).norm() <= 2e-6 * other.norm()


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_modulation_of_a_large_image_at_a_time(kind):
    side = layers.CACHED // 8 // 48
    x, shift, scale = draws(2, side, 48, scale=3), draws(2, 48, seed=1), draws(2, 48, seed=2)
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
        at_once = layers.modulate(x, shift, scale)
        with torch.no_grad():
            each = layers.modulate(x, shift, scale)
    assert each.dtype == at_once.dtype == kind
    least = 1e-6 if kind == torch.float32 else 1e-3
    assert (each.float() - at_once.float()).norm() <= least * at_once.float().norm()


def test_attention_in_bf16_is_as_near_as_the_fused_one():
    q, k, v = (draws(2, 15, 4, 16, seed=seed) for seed in range(3))
    exact = attend(q.double(), k.double(), v.double())
    halves = [x.bfloat16() for x in (q, k, v)]
    fused = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in halves)).transpose(1, 2)
    assert (attend(*halves) - exact).norm() <= 1.5 * (fused - exact).norm()


@pytest.mark.parametrize("dtype, least", [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
@pytest.mark.parametrize("gelu", [False, True])
def test_a_linear_layer_and_its_gelu_in_one_pass(dtype, least, gelu):
    layer, x = torch.nn.Linear(64, 96, dtype=dtype), draws(2, 9, 64, seed=1).to(dtype)
    plain = layer(x.requires_grad_()).float()
    expected = F.gelu(plain, approximate="tanh") if gelu else plain
    with torch.no_grad():
        found = linear(layer, x, gelu)
    assert found.dtype == dtype and found.grad_fn is None
    assert (found.float() - expected).norm() < least * expected.norm()
    assert linear(layer, x, gelu).grad_fn is not None


@pytest.mark.parametrize("dtype, least", [(torch.float32, 2e-6), (torch.bfloat16, 6e-3)])
@pytest.mark.parametrize("gelu", [False, True])
def test_a_linear_layer_and_its_gradients(dtype, least, gelu):
    layer = torch.nn.Linear(64, 96)
    inputs = [draws(2, 9, 64, seed=1, scale=2), *layer.parameters()]
    wrapped = Called(layer, lambda layer, x: linear(layer, x, gelu))

    def apply(x, weight, bias):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            return torch.func.functional_call(wrapped, {"layer.weight": weight, "layer.bias": bias}, x)

    ours = outcome(apply, *inputs)
    assert ours[0].dtype == dtype and ours[0].grad_fn is not None
    expected = outcome(
        lambda *given: F.gelu(F.linear(*given), approximate="tanh") if gelu else F.linear(*given), *inputs
    )
    for one, other in zip(ours, expected, strict=True):
        assert (one - other).norm() <= least * other.norm()


def test_the_gradient_of_gelu_in_bf16_is_wrong_by_less_than_rounding():
    h = torch.linspace(-9, 9, 50000, dtype=torch.float64)
    tanh, exact = (
        torch.ops.aten.gelu_backward(torch.ones_like(h), h, approximate=a) for a in ("tanh", "none")
    )
    by_rounding = (tanh - tanh.bfloat16()).abs().max()
    assert 0 < (tanh - exact).abs().max() < 0.25 * by_rounding


def test_attention_a_few_images_at_a_time(monkeypatch):
    module, x = attention(True, True, True), draws(5, 15, 48)
    with torch.no_grad():
        whole = module(x, TABLE)
        monkeypatch.setattr(layers, "CACHED", 2 * 15 * 48)
        parts, output = [], module.output
        monkeypatch.setattr(module, "output", lambda qkv, table: parts.append(len(qkv)) or output(qkv, table))
        assert torch.equal(module(x, TABLE), whole)
    assert parts == [2, 2, 1]
    module(x, TABLE)
    assert parts == [2, 2, 1, 5]


@pytest.mark.parametrize("known", [False, True])
def test_reordered_weights_multiply_alike(monkeypatch, known):
    if not known:  # a processor without bf16, where weights stay as they are
        monkeypatch.setitem(layers._KINDS, torch.bfloat16, False)
    layer, x = torch.nn.Linear(64, 96, dtype=torch.bfloat16), draws(2, 9, 64, seed=1).bfloat16()
    with torch.no_grad():
        expected = linear(layer, x)
        layers.reorder(layer)
        assert (linear(layer, x) - expected).float().norm() <= 4e-3 * expected.float().norm()
        assert linear(layer, x[:1, :1]).shape == (1, 1, 96)


def test_a_traced_mlp_multiplies_by_the_same_products():
    mlp, x = layers.MLP(48), draws(2, 9, 48)
    names, parameters = zip(*mlp.named_parameters())
    traced = []

    def backend(graph, _):
        traced.extend(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph.forward)

    compiled = torch.compile(mlp, backend=aot_autograd(fw_compiler=backend, bw_compiler=backend))
    expected, found = (
        outcome(
            lambda *given, f=f: torch.func.functional_call(f, dict(zip(names, given[1:])), given[0]),
            x,
            *parameters,
        )
        for f in (mlp, compiled)
    )
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert traced.count("ditgta.product.default") == 7
    with torch.no_grad():
        assert torch.equal(torch.compile(mlp, backend="aot_eager")(x), mlp(x))


def test_modulation_is_float32_under_autocast():
    layer = torch.nn.Sequential(torch.nn.SiLU(), torch.nn.Linear(48, 96))
    exact, c = modulation(layer, draws(2, 48)), draws(2, 48)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(modulation(layer, c), exact)


def test_norm_has_its_epsilon_outside_the_root():
    norm, x = RMSNorm(4), torch.tensor([3e-8, 0.0, 4e-8, 0.0])
    assert torch.allclose(norm(x), x / (5e-8 / 2 + 1e-8))


@pytest.mark.parametrize("posenc", ["abs", "gta", "gta-mixed"])
def test_residuals_are_float32_under_autocast(posenc):
    model, kinds = DiT.from_name("DiT-S/2", 64, posenc, 5, depth=2, width=48, heads=2), []
    for block in model.blocks:
        block.register_forward_hook(lambda module, given, given_back: kinds.append(given_back.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(draws(1, 4, 8, 8), torch.tensor([5]), torch.tensor([1]))
    assert kinds == [torch.float32] * 2
