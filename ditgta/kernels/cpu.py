"""Layers of the transformer for CPUs: the same parameters and, to rounding, the same results in fewer passes over memory.

Shapes: B batch, T tokens, H heads, E head width, P = E/2 channel pairs, D = H E width. Each class takes the place of the layer
that it derives from (`LAYERS`); tests hold outputs and gradients to those of the plain one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ditgta.model import dit, layers
from ditgta.model.positional import Tables

EPSILON = 1e-8
MOST_TOKENS = 1024  # up to here a matrix of all attention weights is worth its memory

# oneDNN's linear layer and the order in which it reads its weights, which PyTorch lacks on some machines.
_LINEAR = _REORDER = None
if torch.backends.mkldnn.is_available():
    _LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    _REORDER = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
# The types that oneDNN multiplies; it does bf16 on some processors alone.
KINDS = {
    torch.float32: _LINEAR is not None,
    torch.bfloat16: _REORDER is not None and torch.ops.mkldnn._is_mkldnn_bf16_supported(),
}


def multiplies(dtype: torch.dtype) -> bool:
    """Return whether oneDNN multiplies values of a type on this processor."""
    return KINDS.get(dtype, False)


def product_type(x: Tensor) -> torch.dtype:
    """Return the type in which linear layers compute on x: that of autocast where it is on."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    if gelu:
        return _LINEAR(x, weight, bias, "gelu", [], "tanh")
    return _LINEAR(x, weight, bias, "none", [], "")


# torch.compile takes oneDNN's operation with constant weights alone; of this one it knows the result's shape and no more.
torch.library.define("ditgta::product", "(Tensor x, Tensor weight, Tensor? bias, bool gelu) -> Tensor")
torch.library.impl("ditgta::product", "cpu", _multiply)
torch.library.register_fake(
    "ditgta::product", lambda x, weight, bias, gelu: x.new_empty(*x.shape[:-1], len(weight))
)


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None, gelu: bool = False) -> Tensor:
    """Return x W^T + b, or its tanh-approximated GELU: x (..., D), W (F, D), b (F,)."""
    product = torch.ops.ditgta.product if torch.compiler.is_compiling() else _multiply
    return product(x, weight, bias, gelu)


class _Linear(torch.autograd.Function):
    """x W^T + b and its gradients by oneDNN: x is (..., D), W (F, D), b (F,)."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        rows, d_rows = x.flatten(0, -2), gradient.flatten(0, -2)
        d_x = _onednn(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        d_weight = _onednn(d_rows.t(), rows.t()) if x.dtype == torch.float32 else d_rows.t() @ rows
        return d_x, d_weight, d_rows.sum(0)


class _Gelu(torch.autograd.Function):
    """The tanh-approximated GELU as oneDNN takes it, after a product by one: PyTorch's own tanh needs twice the time."""

    @staticmethod
    def forward(ctx, h):
        ctx.save_for_backward(h)
        one = torch.eye(16, dtype=h.dtype)
        return _onednn(h.unflatten(-1, (-1, 16)), one, gelu=True).view_as(h)

    @staticmethod
    def backward(ctx, gradient):
        return torch.ops.aten.gelu_backward(gradient, *ctx.saved_tensors, approximate="tanh")


def linear(layer: nn.Linear, x: Tensor, gelu: bool = False) -> Tensor:
    """Return x W^T + b, or its GELU; without gradients oneDNN takes it while the product is in the cache."""
    kind = product_type(x)
    if not multiplies(kind):
        y = F.linear(x, layer.weight, layer.bias)
        return F.gelu(y, approximate="tanh") if gelu else y
    x, weight, bias = (value.to(kind) for value in (x, layer.weight, layer.bias))
    if torch.is_grad_enabled():
        y = _Linear.apply(x, weight, bias)
        return _Gelu.apply(y) if gelu else y
    return _onednn(x, weight, bias, gelu)


class Linear(nn.Linear):
    """A linear layer by oneDNN: in float32 PyTorch asks MKL, which on some processors is half as fast."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(self, x)


class MLP(layers.MLP):
    """The MLP, its GELU taken with the first product."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(linear(self.fc1, x, gelu=True))


def _inverse_norm(x: Tensor) -> Tensor:
    """Return 1 / (||x||_2 E^(-1/2) + 1e-8) over the last axis, which is kept with length 1; float32."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return 1 / (norm * x.shape[-1] ** -0.5 + EPSILON)


def _as_complex(table: Tensor) -> Tensor:
    """Return a rotation table per channel, (T, H or 1, 2, E), as one complex number per pair, (T, H or 1, P)."""
    return torch.complex(table[..., 0, ::2], table[..., 1, 1::2])


def _opposite(rotation: Tensor) -> Tensor:
    """Return the rotations by the opposite angles."""
    return rotation.conj().resolve_conj()


def _turn_(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate float32 values where they stand, one complex product per pair, and return them."""
    torch.view_as_complex(x.unflatten(-1, (-1, 2))).mul_(rotation)
    return x


class _QueriesKeysValues(torch.autograd.Function):
    """Splits q, k, v, normalises q and k, and rotates by a fixed table: y = R (g n), n = x / (||x||_2 E^(-1/2) + 1e-8).

    Args of apply:
        qkv: (B, T, 3, H, E). q_gain, k_gain: (E,) or None for no norm. rotation: complex (T, H or 1, P) or None.
        rotated: which of q, k, v are rotated, a slice.

    Returns:
        q, k, v: (B, T, H, E) each, with the type of qkv; in bf16 each head's tokens lie side by side, as its products want them.
    """

    @staticmethod
    def forward(ctx, qkv, q_gain, k_gain, rotation, rotated):
        gains = inverse = None
        values = qkv.to(torch.float32, copy=True)
        if q_gain is not None:
            gains, normed = torch.stack([q_gain, k_gain]), values[:, :, :2]
            inverse = _inverse_norm(values)[:, :, :2]  # of v too: what lies in one piece takes half the time
            normed.mul_(inverse).mul_(gains[:, None])
        if rotation is not None:
            _turn_(values[:, :, rotated], rotation[:, None])
        ctx.rotated = rotated
        ctx.save_for_backward(qkv, gains, inverse, rotation)
        if qkv.dtype == torch.float32:
            return values.unbind(2)
        by_heads = values.permute(2, 0, 3, 1, 4).to(qkv.dtype, memory_format=torch.contiguous_format)
        return by_heads.transpose(2, 3).unbind()

    @staticmethod
    def backward(ctx, *gradients):
        qkv, gains, inverse, rotation = ctx.saved_tensors
        # Work in the order in which the gradients lie in memory: (3, B, H, T, E) or (3, B, T, H, E).
        by_heads = gradients[0].transpose(1, 2).is_contiguous()
        order = (2, 0, 3, 1, 4) if by_heads else (2, 0, 1, 3, 4)
        x = qkv.permute(order)
        d = torch.empty(x.shape, dtype=torch.float32, device=x.device)
        for part, gradient in zip(d, gradients):
            part.copy_(gradient.transpose(1, 2) if by_heads else gradient)
        if rotation is not None:
            back = _opposite(rotation)
            _turn_(d[ctx.rotated], back.transpose(0, 1) if by_heads else back)
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


class _Rotated(torch.autograd.Function):
    """x turned by fixed rotations, one complex product per pair: x (..., T, H, E), rotation (T, H or 1, P)."""

    @staticmethod
    def forward(ctx, x, rotation):
        ctx.save_for_backward(rotation)
        return _rotated(x, rotation)

    @staticmethod
    def backward(ctx, gradient):
        (rotation,) = ctx.saved_tensors
        return _rotated(gradient, _opposite(rotation)), None


def _rotated(x: Tensor, rotation: Tensor) -> Tensor:
    return _turn_(x.to(torch.float32, copy=True, memory_format=torch.contiguous_format), rotation).to(x.dtype)


class MatmulAttention(layers.Attention):
    """Attention that in bf16 makes the matrix of all weights: PyTorch's fused one takes more than twice the time."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        if q.dtype != torch.bfloat16 or not multiplies(torch.bfloat16) or q.shape[1] > MOST_TOKENS:
            return super().attend(q, k, v, bias)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        rows, columns = q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2)
        scale = q.shape[-1] ** -0.5 if self.scale is None else self.scale
        scaled = torch.baddbmm(q.new_empty(1, 1, 1), rows, columns, beta=0, alpha=scale)
        logits = scaled.unflatten(0, q.shape[:2])
        if bias is not None:
            logits = logits + bias.to(logits.dtype)
        return (torch.softmax(logits, -1) @ v).transpose(1, 2)


class Attention(MatmulAttention):
    """Attention whose norms and fixed rotations of q, k and v are one pass; learned ones and maps take the plain layer."""

    def forward(self, x_BTD: Tensor, tables: Tables) -> Tensor:
        table, bias, maps = tables
        fixed_pairs = table is None or (table.dim() == 4 and not table.requires_grad)
        if maps is not None or not fixed_pairs:
            return layers.Attention.forward(self, x_BTD, tables)
        rotation = None if table is None else _as_complex(table)
        gains = (getattr(norm, "scale", None) for norm in (self.q_norm, self.k_norm))
        rotated = slice(0 if "qk" in self.rotated else 2, 3 if "vo" in self.rotated else 2)
        qkv = self.qkv(x_BTD).unflatten(-1, (3, self.heads, -1))
        q, k, v = _QueriesKeysValues.apply(qkv, *gains, rotation, rotated)
        o = self.attend(q, k, v, bias)
        if "vo" in self.rotated:
            o = _Rotated.apply(o, _opposite(rotation))
        return self.proj(o.flatten(2))


LAYERS = {nn.Linear: Linear, layers.MLP: MLP, layers.Attention: Attention}
# The compiler fuses all but products and attention by itself.
COMPILED_LAYERS = {nn.Linear: Linear, layers.Attention: MatmulAttention}


def apply(network: dit.DiT, compile: bool = False) -> None:
    """Put kernels in the places of a network's layers; `compile`: those that suit a network that will be compiled."""
    kernels = COMPILED_LAYERS if compile else LAYERS
    for layer in network.modules():
        layer.__class__ = kernels.get(type(layer), type(layer))


@torch.no_grad()
def reorder(network: dit.DiT) -> None:
    """Order the bf16 weights of the blocks as oneDNN reads them, once for all passes; they serve nothing else then."""
    for layer in network.blocks.modules():
        if isinstance(layer, Linear) and layer.weight.dtype == torch.bfloat16 and multiplies(torch.bfloat16):
            layer.weight = nn.Parameter(_REORDER(layer.weight, None), requires_grad=False)
