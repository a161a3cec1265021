"""Kernels for CPUs give the plain layers' outputs and gradients, and step aside where they do not apply."""

import copy

import pytest
import torch
import torch.nn.functional as F
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd

from ditgta import DiT, kernels
from ditgta.config import POSENCS
from ditgta.kernels import cpu
from ditgta.model import layers
from ditgta.model.positional import GeometricTransform, Tables, per_channel

KINDS = [torch.float32, torch.bfloat16]
# How far a kernel may be from the plain layer, relative: in bf16 as far as rounding the products' inputs and results takes it.
NEAR = {torch.float32: 3e-6, torch.bfloat16: 2e-2}


def draws(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shaken(module):
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.add_(0.1 * draws(*parameter.shape, seed=number))
    return module


def with_kernels(module):
    """Returns a copy of a module with kernels in the places of its layers."""
    module = copy.deepcopy(module)
    for layer in module.modules():
        layer.__class__ = cpu.LAYERS.get(type(layer), type(layer))
    return module


def outcome(module, kind, x, *more):
    """Returns what a module gives, and the gradients of a fixed mixture of it for the input and all parameters."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
        y = module(x, *more)
    wanted = [x, *(p for p in module.parameters() if p.requires_grad)]
    return [y, *torch.autograd.grad((y.float() * draws(*y.shape, seed=1)).sum(), wanted)]


def assert_near(found, expected, most):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert (one.float() - other.float()).norm() <= most * other.float().norm() + 1e-7


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("posenc", POSENCS)
@pytest.mark.parametrize("qk_norm", [True, False])
def test_a_network_computes_what_the_plain_one_does(posenc, kind, qk_norm):
    """In training, outputs and all gradients; in inference the outputs, of one image and of several."""
    model = shaken(DiT.from_name("DiT-S/2", (64, 96), posenc, 5, qk_norm, depth=2, width=144, heads=2))
    x, t, y = draws(3, 4, 8, 12, scale=2), torch.tensor([0, 500, 999]), torch.tensor([0, 3, 5])
    fast = copy.deepcopy(model)
    assert kernels.choose(fast)["kernels"] == "cpu"
    assert {type(layer) for layer in fast.modules()} & set(cpu.LAYERS) == set()
    # The exact network says how far rounding to bf16 takes the plain one: kernels may be as far from it.
    exact, plain, found = (
        outcome(m, k, x, t, y) for m, k in ((model, torch.float32), (model, kind), (fast, kind))
    )
    for e, p, f in zip(exact, plain, found, strict=True):
        rounding = (p.float() - e).norm() if kind == torch.bfloat16 else 0
        assert (f.float() - e).norm() <= 2 * rounding + 1e-5 * e.norm() + 1e-6
    dtype = kind if kind == torch.bfloat16 else None
    fast, chosen = kernels.for_inference(model, dtype)
    assert chosen["kernels"] == "cpu" and model.x_embedder.proj.weight is fast.x_embedder.proj.weight
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype is not None):
        rounding = (plain[0].float() - exact[0]).norm() if dtype else 0
        assert (fast(x, t, y).float() - exact[0]).norm() <= 2 * rounding + 1e-5 * exact[0].norm()
        assert fast(x[:1], t[:1], y[:1]).shape == (1, 8, 8, 12)
    assert all(
        layer.weight.dtype == torch.float32 for layer in model.modules() if isinstance(layer, cpu.nn.Linear)
    )


def test_switched_off_the_layers_are_the_plain_ones():
    model = DiT.from_name("DiT-S/2", 64, "gta", 5, depth=1, width=48, heads=2)
    before = [type(layer) for layer in model.modules()]
    chosen = kernels.choose(model, "off")
    assert [type(layer) for layer in model.modules()] == before
    assert (chosen["kernels"], chosen["compile"]) == ("off", False)
    assert chosen["torch"] == torch.__version__ and chosen["device"].startswith("CPU ")


def test_every_kernel_has_the_parameters_of_its_layer():
    for plain, fast in cpu.LAYERS.items():
        assert issubclass(fast, plain) and fast.__init__ is plain.__init__


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gelu", [False, True])
def test_a_linear_layer_and_its_gelu(kind, gelu):
    plain = layers.MLP(64) if gelu else torch.nn.Linear(64, 96)
    fast, x = with_kernels(plain), draws(2, 9, 64, seed=1, scale=2)
    assert_near(outcome(fast, kind, x), outcome(plain, kind, x), NEAR[kind])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
        assert_near([fast(x)], [plain(x)], NEAR[kind])


TABLE = Tables(per_channel(GeometricTransform(3, 5, 48, 4).rotation_table()[0]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("rotated", [(), ("qk",), ("vo",), ("qk", "vo")])
def test_attention(kind, qk_norm, rotated):
    plain = shaken(layers.Attention(48, 4, qk_norm, rotated))
    fast, x, table = with_kernels(plain), draws(2, 15, 48), TABLE if rotated else Tables()
    assert_near(outcome(fast, kind, x, table), outcome(plain, kind, x, table), NEAR[kind])


def test_a_query_of_zeros_has_a_finite_gradient():
    fast = with_kernels(layers.Attention(8, 1, True, ()))
    found = outcome(fast, torch.float32, torch.zeros(1, 2, 8), Tables())
    assert all(value.isfinite().all() for value in found)


def test_attention_in_bf16_is_as_near_as_the_fused_one():
    q, k, v = (draws(2, 15, 4, 16, seed=seed) for seed in range(3))
    attention = cpu.MatmulAttention(64, 4, False, ())
    exact = attention.attend(q.double(), k.double(), v.double())
    halves = [x.bfloat16() for x in (q, k, v)]
    fused = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in halves)).transpose(1, 2)
    assert (attention.attend(*halves) - exact).norm() <= 1.5 * (fused - exact).norm()


@pytest.mark.parametrize("known", [False, True])
def test_reordered_weights_multiply_alike(monkeypatch, known):
    if not known:  # a processor without bf16, where weights stay as they are
        monkeypatch.setitem(cpu.KINDS, torch.bfloat16, False)
    model = shaken(DiT.from_name("DiT-S/2", 64, "gta", 5, depth=1, width=64, heads=2)).bfloat16()
    layer, x = model.blocks[0].mlp.fc1, draws(2, 9, 64, seed=1).bfloat16()
    with torch.no_grad():
        expected = layer(x)
        cpu.apply(model)
        cpu.reorder(model)
        assert_near([layer(x)], [expected], 4e-3)
        assert layer(x[:1, :1]).shape == (1, 1, 256)


def test_without_bf16_instructions_pytorch_multiplies(monkeypatch):
    monkeypatch.setitem(cpu.KINDS, torch.bfloat16, False)
    monkeypatch.setattr(cpu, "_multiply", None)
    monkeypatch.setattr(torch, "baddbmm", None)
    plain = shaken(layers.Attention(48, 4, True, ("qk", "vo")))
    x, mlp = draws(2, 15, 48), layers.MLP(48)
    for layer, more in ((plain, (TABLE,)), (mlp, ())):
        found, expected = (outcome(m, torch.bfloat16, x, *more) for m in (with_kernels(layer), layer))
        assert_near(found, expected, NEAR[torch.bfloat16])


def test_a_traced_linear_layer_multiplies_by_the_same_products():
    fast, x = cpu.Linear(48, 96), draws(2, 9, 48)
    traced = []

    def backend(graph, _):
        traced.extend(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph.forward)

    compiled = torch.compile(fast, backend=aot_autograd(fw_compiler=backend, bw_compiler=backend))
    for one, other in zip(outcome(fast, torch.float32, x), outcome(compiled, torch.float32, x), strict=True):
        assert torch.equal(one, other)
    assert traced.count("ditgta.product.default") == 3
