"""The transformer's layers: normalisation, attention, MLP and modulation, with as few passes over memory as PyTorch allows.

Shapes: B batch, T tokens, H heads, E head width, P = E/2 channel pairs, D = H E width. Norms, rotations and the sum along the
residuals are float32 in every precision. What has a backward pass of its own is held to the plain formula by a test; under
torch.compile, which fuses by itself, and for rotations that are learned the plain formulas are used.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ditgta.model.positional import rotate, rotate_back, turn_

EPSILON = 1e-8
# tanh-GELU is x sigmoid(_LINEAR x + _CUBIC x^3): 0.5 (1 + tanh(u)) = sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3).
_LINEAR = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _LINEAR
_MOST_TOKENS = 1024  # up to here a matrix of all attention weights is worth its memory


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
    """Splits q, k, v, normalises q and k, and rotates by fixed tables: y = R (g n), n = x / (||x||_2 E^(-1/2) + 1e-8).

    Args of apply:
        qkv: (B, T, 3, H, E). q_gain, k_gain: (E,) or None for no norm. qk_table, vo_table: (T, H or 1, P, 2) or None.

    Returns:
        q, k, v: (B, T, H, E) each, with the type of qkv.
    """

    @staticmethod
    def forward(ctx, qkv, q_gain, k_gain, qk_table, vo_table):
        outputs, inverses = [], []
        parts = zip(qkv.unbind(2), (q_gain, k_gain, None), (qk_table, qk_table, vo_table))
        for x, gain, table in parts:
            inverses.append(None if gain is None else inverse_norm(x))
            y = x.to(torch.float32, copy=True) if gain is None else (x * inverses[-1]).mul_(gain)
            outputs.append((y if table is None else turn_(y, table)).to(x.dtype))
        ctx.save_for_backward(qkv, q_gain, k_gain, qk_table, vo_table, *inverses[:2])
        return tuple(outputs)

    @staticmethod
    def backward(ctx, *gradients):
        qkv, q_gain, k_gain, qk_table, vo_table, *inverses = ctx.saved_tensors
        d_qkv, d_gains = torch.empty_like(qkv), []
        parts = zip(gradients, qkv.unbind(2), d_qkv.unbind(2), (q_gain, k_gain, None), [*inverses, None])
        for number, (gradient, x, out, gain, inverse) in enumerate(parts):
            table = vo_table if number == 2 else qk_table
            d = gradient if table is None else rotate_back(gradient.float(), table)
            if gain is None:
                out.copy_(d)
                continue
            # dL/dx = (g d - n (g d . n) / (E (1 - 1e-8 / (||x|| E^(-1/2) + 1e-8)))) / (||x||_2 E^(-1/2) + 1e-8)
            n = x * inverse
            dn = d * n
            d_gains.append(dn.flatten(0, 2).sum(0))
            along = (dn @ gain).unsqueeze(-1) / (1 - EPSILON * inverse).mul_(x.shape[-1]).clamp_min_(1e-30)
            torch.mul((d * gain).addcmul_(n, along, value=-1), inverse, out=out)
        return d_qkv, *(d_gains or (None, None)), None, None


class _GELU(torch.autograd.Function):
    """tanh-GELU by a sigmoid: PyTorch's tanh on the CPU takes several times as long. The slope needs no further sigmoid."""

    @staticmethod
    def forward(ctx, x):
        x_32 = x.float()
        sigmoid = torch.addcmul(x_32.new_tensor(_LINEAR), x_32, x_32, value=_CUBIC).mul_(x_32).sigmoid_()
        ctx.save_for_backward(x, sigmoid.to(x.dtype))
        return (x_32 * sigmoid).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        x, sigmoid = (tensor.float() for tensor in ctx.saved_tensors)
        # d/dx x s(u) = s (1 + x u' (1 - s)), u' = _LINEAR + 3 _CUBIC x^2
        slope = torch.addcmul(x.new_tensor(_LINEAR), x, x, value=3 * _CUBIC).mul_(x)
        slope.addcmul_(slope, sigmoid, value=-1)
        torch.addcmul(sigmoid, slope, sigmoid, out=slope)
        return slope.mul_(gradient).to(gradient.dtype)


def gelu(x: Tensor) -> Tensor:
    """The tanh approximation of GELU (Hendrycks and Gimpel, 2016)."""
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        return _GELU.apply(x)
    return F.gelu(x, approximate="tanh")


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T E^(-1/2)) v over the tokens, for each head: (B, T, H, E) each, and the result.

    In bf16 on the CPU the matrix of all weights is made: PyTorch's fused attention takes more than twice the time there.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and q.shape[2] <= _MOST_TOKENS:
        weights = (q * q.shape[-1] ** -0.5 @ k.transpose(2, 3)).softmax(-1)
        return (weights @ v).transpose(1, 2)
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
        o = attend(*self.queries_keys_values(x_BTD, table))
        if self.rotates_vo:
            o = rotate_back(o, table)
        return self.proj(o.flatten(2))

    def queries_keys_values(self, x_BTD: Tensor, table: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Returns q, k and v, normalised and rotated as they are to meet: (B, T, H, E) each."""
        qkv = self.qkv(x_BTD).unflatten(-1, (3, self.heads, -1))
        qk_table, vo_table = table if self.rotates_qk else None, table if self.rotates_vo else None
        if not torch.compiler.is_compiling() and (table is None or not table.requires_grad):
            gains = (getattr(norm, "scale", None) for norm in (self.q_norm, self.k_norm))
            return _QueriesKeysValues.apply(qkv, *gains, qk_table, vo_table)
        q, k, v = qkv.unbind(2)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.rotates_qk:
            q, k = rotate(q, table), rotate(k, table)
        return q, k, rotate(v, table) if self.rotates_vo else v


class MLP(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, ratio: int = 4):
        super().__init__()
        self.fc1 = nn.Linear(width, ratio * width)
        self.fc2 = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(x)))


def modulate(x_BTD: Tensor, shift_BD: Tensor, scale_BD: Tensor) -> Tensor:
    """LayerNorm without parameters, then x (1 + scale) + shift with the conditioning's shift and scale (adaLN)."""
    x_BTD = F.layer_norm(x_BTD, x_BTD.shape[-1:], eps=1e-6)
    return torch.addcmul(shift_BD[:, None], x_BTD, 1 + scale_BD[:, None])
