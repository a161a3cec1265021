"""The transformer's layers: normalisation, attention, MLP and modulation, with as few passes over memory as PyTorch allows.

Shapes: B batch, T tokens, H heads, E head width, P = E/2 channel pairs, D = H E width. Norms, rotations, modulations and the sum along
the residuals are float32 in every precision. What has a backward pass of its own is held to the plain formula by a test; under
torch.compile, which fuses all but the products by itself, and for rotations that are learned the plain formulas are used.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ditgta.model.positional import opposite, rotate, rotate_back, turn_

EPSILON, LAYER_EPSILON = 1e-8, 1e-6
MOST_TOKENS = 1024  # up to here a matrix of all attention weights is worth its memory
CACHED = 2**19 - 2**17  # tokens x D whose attention, without gradients, a CPU holds in its cache

# oneDNN's linear layer and the order in which it reads its weights, which PyTorch lacks on some machines.
_LINEAR, _REORDER = (
    getattr(torch.ops.mkldnn, name, None) if torch.backends.mkldnn.is_available() else None
    for name in ("_linear_pointwise", "_reorder_linear_weight")
)
# The types that oneDNN multiplies; it does bf16 on some processors alone.
_KINDS = {
    torch.float32: _LINEAR is not None,
    torch.bfloat16: _REORDER is not None and torch.ops.mkldnn._is_mkldnn_bf16_supported(),
}


class RMSNorm(nn.Module):
    """y = g x / (||x||_2 E^(-1/2) + 1e-8) over the last axis; the epsilon stands outside the root (Zhang and Sennrich, 2019)."""

    def __init__(self, width: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return (x.float() * inverse_norm(x) * self.scale).to(x.dtype)


def inverse_norm(x: Tensor) -> Tensor:
    """Returns 1 / (||x||_2 E^(-1/2) + 1e-8) over the last axis, which is kept with length 1; float32."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return 1 / (norm * x.shape[-1] ** -0.5 + EPSILON)


class _QueriesKeysValues(torch.autograd.Function):
    """Splits q, k, v, normalises q and k, and rotates by a fixed table: y = R (g n), n = x / (||x||_2 E^(-1/2) + 1e-8).

    Args of apply:
        qkv: (B, T, 3, H, E). q_gain, k_gain: (E,) or None for no norm. table: (T, H or 1, P, 2) or None.
        rotated: which of q, k, v the table rotates, a slice.

    Returns:
        q, k, v: (B, T, H, E) each, with the type of qkv; in bf16 each head's tokens lie side by side, as its products want them.
    """

    @staticmethod
    def forward(ctx, qkv, q_gain, k_gain, table, rotated):
        gains = inverse = None
        values = qkv.to(torch.float32, copy=True)
        if q_gain is not None:
            gains, normed = torch.stack([q_gain, k_gain]), values[:, :, :2]
            inverse = inverse_norm(values)[:, :, :2]  # of v too: what lies in one piece takes half the time
            normed.mul_(inverse).mul_(gains[:, None])
        if table is not None:
            turn_(values[:, :, rotated], table[:, None])
        ctx.rotated = rotated
        ctx.save_for_backward(qkv, gains, inverse, table)
        if qkv.dtype == torch.float32:
            return values.unbind(2)
        by_heads = values.permute(2, 0, 3, 1, 4).to(qkv.dtype, memory_format=torch.contiguous_format)
        return by_heads.transpose(2, 3).unbind()

    @staticmethod
    def backward(ctx, *gradients):
        qkv, gains, inverse, table = ctx.saved_tensors
        # Work in the order in which the gradients lie in memory: (3, B, H, T, E) or (3, B, T, H, E).
        by_heads = gradients[0].transpose(1, 2).is_contiguous()
        order = (2, 0, 3, 1, 4) if by_heads else (2, 0, 1, 3, 4)
        x = qkv.permute(order)
        d = torch.empty(x.shape, dtype=torch.float32, device=x.device)
        for part, gradient in zip(d, gradients):
            part.copy_(gradient.transpose(1, 2) if by_heads else gradient)
        if table is not None:
            back = opposite(table)
            turn_(d[ctx.rotated], back.transpose(0, 1) if by_heads else back)
        d_gains = None, None
        if gains is not None:
            # dL/dx = (g d - n (g d . n) / (E (1 - 1e-8 / (||x|| E^(-1/2) + 1e-8)))) / (||x||_2 E^(-1/2) + 1e-8)
            inverse = inverse.permute(order)
            n = torch.empty_like(d[:2]).copy_(x[:2]).mul_(inverse)
            dn = d[:2] * n
            d_gains = dn.flatten(1, 3).sum(1).unbind()
            along = torch.stack([part @ gain for part, gain in zip(dn, gains)]).unsqueeze(-1)
            along /= (1 - EPSILON * inverse).mul_(n.shape[-1]).clamp_min_(1e-30)
            d[:2].mul_(gains[:, None, None, None]).addcmul_(n, along, value=-1).mul_(inverse)
        d_qkv = torch.empty_like(qkv)
        d_qkv.permute(order).copy_(d)
        return d_qkv, *d_gains, None, None


def product_type(x: Tensor) -> torch.dtype:
    """Returns the type in which linear layers compute on x: that of autocast where it is on."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return x.dtype


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    return _LINEAR(x, weight, bias, *(("gelu", [], "tanh") if gelu else ("none", [], "")))


# torch.compile takes oneDNN's operation with constant weights alone; of this one it knows the result's shape and no more.
torch.library.define("ditgta::product", "(Tensor x, Tensor weight, Tensor? bias, bool gelu) -> Tensor")
torch.library.impl("ditgta::product", "cpu", _onednn)
torch.library.register_fake(
    "ditgta::product", lambda x, weight, bias, gelu: x.new_empty(*x.shape[:-1], len(weight))
)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None, gelu: bool = False) -> Tensor:
    """Returns x W^T + b by oneDNN, or its tanh-approximated GELU: x (..., D), W (F, D), b (F,)."""
    call = torch.ops.ditgta.product if torch.compiler.is_compiling() else _onednn
    return call(x, weight, bias, gelu)


class _Linear(torch.autograd.Function):
    """x W^T + b and its gradients by oneDNN: x is (..., D), W (F, D), b (F,)."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        rows, d_rows = x.flatten(0, -2), gradient.flatten(0, -2)
        d_x = _product(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        d_weight = _product(d_rows.t(), rows.t()) if x.dtype == torch.float32 else d_rows.t() @ rows
        return d_x, d_weight, d_rows.sum(0)


class _Gelu(torch.autograd.Function):
    """The tanh-approximated GELU as oneDNN takes it, after a product by one: PyTorch's own tanh needs twice the time.

    In bf16 the gradient is the exact GELU's, a third of the work: it differs by .0009 at most, where rounding alone errs by .0039.
    """

    @staticmethod
    def forward(ctx, h):
        ctx.save_for_backward(h)
        one = torch.eye(16, dtype=h.dtype)
        return _product(h.unflatten(-1, (-1, 16)), one, gelu=True).view_as(h)

    @staticmethod
    def backward(ctx, gradient):
        approximation = "none" if gradient.dtype == torch.bfloat16 else "tanh"
        return torch.ops.aten.gelu_backward(gradient, *ctx.saved_tensors, approximate=approximation)


def linear(layer: nn.Linear, x: Tensor, gelu: bool = False) -> Tensor:
    """Returns layer(x), or its tanh-approximated GELU.

    On a CPU oneDNN multiplies: in float32 PyTorch asks MKL, which on some processors is half as fast. Where no gradient is asked
    for, it adds the bias and takes the GELU while the product is in the cache.
    """
    weight, kind = layer.weight, product_type(x)
    if weight.device.type != "cpu" or not _KINDS.get(kind):
        y = layer(x)
        return F.gelu(y, approximate="tanh") if gelu else y
    x, weight, bias = (value.to(kind) for value in (x, weight, layer.bias))
    if torch.is_grad_enabled():
        y = _Linear.apply(x, weight, bias)
        return _Gelu.apply(y) if gelu else y
    return _product(x, weight, bias, gelu)


@torch.no_grad()
def reorder(layer: nn.Linear) -> None:
    """Orders the weights of a layer as `linear` reads them on a CPU, once for all calls; they serve nothing else then."""
    if layer.weight.device.type == "cpu" and layer.weight.dtype == torch.bfloat16 and _KINDS[torch.bfloat16]:
        layer.weight = nn.Parameter(_REORDER(layer.weight, None), requires_grad=False)


def modulation(layer: nn.Sequential, c_ND: Tensor) -> Tensor:
    """Returns all shifts, scales and gates of a layer from the conditions, in the type of its weights in every precision.

    There are so few conditions that rounding the weights to bf16, and their gradients, would cost more than the product.
    """
    c_ND = c_ND.to(layer[1].weight.dtype)
    if product_type(c_ND) == c_ND.dtype:
        return linear(layer[1], layer[0](c_ND))
    with torch.autocast(c_ND.device.type, enabled=False):
        return linear(layer[1], layer[0](c_ND))


class _Modulated(torch.autograd.Function):
    """LayerNorm without parameters, then h (1 + scale) + shift; autograd would make several products more of it."""

    @staticmethod
    def forward(ctx, x, shift, scale):
        h, mean, deviation = torch.native_layer_norm(x, x.shape[-1:], None, None, LAYER_EPSILON)
        gain = 1 + scale.float()
        ctx.save_for_backward(x, h, mean, deviation, gain)
        ctx.kinds = shift.dtype, scale.dtype
        # The linear layer that follows would cast it under autocast; what is kept for the backward pass is then small already.
        return torch.addcmul(shift[:, None].float(), h, gain[:, None]).to(product_type(x))

    @staticmethod
    def backward(ctx, gradient):
        x, h, mean, deviation, gain = ctx.saved_tensors
        d = gradient.float()
        d_shift, d_scale = d.sum(1).to(ctx.kinds[0]), (d * h).sum(1).to(ctx.kinds[1])
        which = (True, False, False)
        d_x, *_ = torch.ops.aten.native_layer_norm_backward(
            d * gain[:, None], x, x.shape[-1:], mean, deviation, None, None, which
        )
        return d_x, d_shift, d_scale


def modulate(x_BTD: Tensor, shift_BD: Tensor, scale_BD: Tensor) -> Tensor:
    """LayerNorm without parameters, then x (1 + scale) + shift with the conditioning's shift and scale (adaLN)."""
    if torch.compiler.is_compiling():
        h_BTD = F.layer_norm(x_BTD, x_BTD.shape[-1:], eps=LAYER_EPSILON)
        return h_BTD * (1 + scale_BD[:, None]) + shift_BD[:, None]
    large = x_BTD.device.type == "cpu" and x_BTD.shape[1:].numel() >= CACHED // 8
    if torch.is_grad_enabled() or not large:
        return _Modulated.apply(x_BTD, shift_BD, scale_BD)
    y_BTD = torch.empty(x_BTD.shape, dtype=product_type(x_BTD))
    for y, x, shift, gain in zip(y_BTD, x_BTD, shift_BD.float(), 1 + scale_BD.float()):
        # Norm, modulation and rounding of one image while it is in the cache.
        y.copy_(F.layer_norm(x, x.shape[-1:], gain, shift, LAYER_EPSILON))
    return y_BTD


class _Gated(torch.autograd.Function):
    """x + gate y in one pass, and its gradients without the copies that autograd makes."""

    @staticmethod
    def forward(ctx, x, gate, y):
        ctx.save_for_backward(gate, y)
        return torch.addcmul(x, gate[:, None], y)

    @staticmethod
    def backward(ctx, gradient):
        gate, y = ctx.saved_tensors
        d_gate = (gradient * y).sum(1).to(gate.dtype)
        return gradient, d_gate, (gradient * gate[:, None]).to(y.dtype)


def add_gated(x_BTD: Tensor, gate_BD: Tensor, y_BTD: Tensor) -> Tensor:
    """x + gate y: a block's branch joins the residuals, which keep their type (adaLN-zero). Without gradients it is added to x in place."""
    if torch.compiler.is_compiling():
        return x_BTD + gate_BD[:, None] * y_BTD
    if not torch.is_grad_enabled():
        return x_BTD.addcmul_(gate_BD[:, None], y_BTD)
    return _Gated.apply(x_BTD, gate_BD, y_BTD)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T E^(-1/2)) v over the tokens, for each head: (B, T, H, E) each, and the result.

    In bf16 on the CPU the matrix of all weights is made: PyTorch's fused attention takes more than twice the time there.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and q.shape[2] <= MOST_TOKENS:
        rows, columns = q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2)
        scaled = torch.baddbmm(q.new_empty(1, 1, 1), rows, columns, beta=0, alpha=q.shape[-1] ** -0.5)
        weights = torch.softmax(scaled, -1, out=None if torch.is_grad_enabled() else scaled)
        return (weights.unflatten(0, q.shape[:2]) @ v).transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention: project -> normalise q, k -> rotate -> attend -> rotate back -> project."""

    def __init__(self, width: int, heads: int, qk_norm: bool, rotates_qk: bool, rotates_vo: bool):
        super().__init__()
        self.heads, self.rotates_qk, self.rotates_vo = heads, rotates_qk, rotates_vo
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = RMSNorm(width // heads) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(width // heads) if qk_norm else nn.Identity()
        self.proj = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor, table: Tensor | None) -> Tensor:
        qkv = linear(self.qkv, x_BTD).unflatten(-1, (3, self.heads, -1))
        images = max(1, CACHED // x_BTD.shape[1:].numel())
        whole = qkv.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling()
        if whole or len(qkv) <= images:
            o = self.output(qkv, table)
        else:
            o = torch.cat([self.output(some, table) for some in qkv.split(images)])
        return linear(self.proj, o.flatten(2))

    def output(self, qkv: Tensor, table: Tensor | None) -> Tensor:
        """Returns what the heads make of q, k and v as they were projected: (B, T, 3, H, E) -> (B, T, H, E)."""
        o = attend(*self.queries_keys_values(qkv, table))
        return rotate_back(o, table) if self.rotates_vo else o

    def queries_keys_values(self, qkv: Tensor, table: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Returns q, k and v, normalised and rotated as they are to meet: (B, T, H, E) each."""
        if not torch.compiler.is_compiling() and (table is None or not table.requires_grad):
            gains = (getattr(norm, "scale", None) for norm in (self.q_norm, self.k_norm))
            rotated = slice(0 if self.rotates_qk else 2, 3 if self.rotates_vo else 2)
            return _QueriesKeysValues.apply(qkv, *gains, table, rotated)
        q, k, v = qkv.unbind(2)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.rotates_qk:
            q, k = rotate(q, table), rotate(k, table)
        return q, k, rotate(v, table) if self.rotates_vo else v


class MLP(nn.Module):
    """Two linear layers with a tanh-approximated GELU between them."""

    def __init__(self, width: int, ratio: int = 4):
        super().__init__()
        self.fc1 = nn.Linear(width, ratio * width)
        self.fc2 = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return linear(self.fc2, linear(self.fc1, x, gelu=True))
