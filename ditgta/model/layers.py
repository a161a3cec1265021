"""The layers of the transformer, as plain formulas.

Shapes: B batch, T tokens, H heads, E head width, D = H E width. Under autocast the matmuls are rounded; norms, rotations and
modulations are float32 in every precision. `ditgta.kernels` has faster layers with the same parameters and results.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ditgta.model.positional import Tables, rotate, rotate_back

TIME_WIDTH = 256


class RMSNorm(nn.Module):
    """y = g x / (||x||_2 E^(-1/2) + 1e-8) over the last axis; the epsilon stands outside the root (Zhang and Sennrich, 2019)."""

    def __init__(self, width: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x.float(), dim=-1, keepdim=True) * x.shape[-1] ** -0.5
        return (x.float() / (norm + 1e-8) * self.scale).to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention: project, normalise q and k, map and rotate, attend, rotate back, project."""

    def __init__(self, width: int, heads: int, qk_norm: bool, rotated: tuple[str, ...]):
        super().__init__()
        self.heads, self.rotated = heads, rotated
        self.scale: float | None = None  # of q k^T; None: E^(-1/2)
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = RMSNorm(width // heads) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(width // heads) if qk_norm else nn.Identity()
        self.proj = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor, tables: Tables) -> Tensor:
        """Args: tables: what this block's attention knows of positions."""
        table = tables.rotation
        q, k, v = self.qkv(x_BTD).unflatten(-1, (3, self.heads, -1)).unbind(2)  # (B, T, H, E) each
        q, k = self.q_norm(q), self.k_norm(k)
        if tables.maps is not None:
            q, k = (torch.einsum("bthe,hfe->bthf", x, m) for x, m in zip((q, k), tables.maps))
        if "qk" in self.rotated:
            q, k = rotate(q, table), rotate(k, table)
        if "vo" in self.rotated:
            v = rotate(v, table)
        o = self.attend(q, k, v, tables.bias)
        if "vo" in self.rotated:
            o = rotate_back(o, table)
        return self.proj(o.flatten(2))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """softmax(q k^T E^(-1/2) + bias) v over the tokens, for each head: (B, T, H, E) each, and the result; bias (H, T, T)."""
        added = None if bias is None else bias[None].to(q.dtype)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        o = F.scaled_dot_product_attention(q, k, v, attn_mask=added, scale=self.scale)
        return o.transpose(1, 2)


class MLP(nn.Module):
    """Two linear layers with a tanh-approximated GELU between them."""

    def __init__(self, width: int, ratio: int = 4):
        super().__init__()
        self.fc1 = nn.Linear(width, ratio * width)
        self.fc2 = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Modulation(nn.Sequential):
    """`count` shifts, scales and gates of each image from its condition c: SiLU, then a linear layer, never rounded."""

    def __init__(self, width: int, count: int):
        super().__init__(nn.SiLU(), nn.Linear(width, count * width))
        self.count = count

    def forward(self, c_BD: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(c_BD.device.type, enabled=False):
            return super().forward(c_BD.to(self[1].weight.dtype))[:, None].chunk(self.count, dim=-1)


def modulate(x_BTD: Tensor, shift_B1D: Tensor, scale_B1D: Tensor) -> Tensor:
    """LayerNorm without parameters, then x (1 + scale) + shift with the condition's shift and scale (adaLN)."""
    return F.layer_norm(x_BTD, x_BTD.shape[-1:], eps=1e-6) * (1 + scale_B1D) + shift_B1D


class TimeEmbedder(nn.Module):
    """256 sinusoids of the timestep, then an MLP."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIME_WIDTH, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t_B: Tensor) -> Tensor:
        k = torch.arange(TIME_WIDTH // 2, device=t_B.device, dtype=torch.float32)
        angles = t_B.float()[:, None] * torch.exp(-math.log(10000) * k / len(k))
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=1))


class LabelEmbedder(nn.Module):
    """One vector per class; the last row is the null label of classifier-free guidance."""

    def __init__(self, num_classes: int, width: int):
        super().__init__()
        self.embedding_table = nn.Embedding(num_classes + 1, width)

    def forward(self, y_B: Tensor) -> Tensor:
        return self.embedding_table(y_B)


class PatchEmbedder(nn.Module):
    """A strided convolution from latent patches to tokens."""

    def __init__(self, channels: int, patch: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)

    def forward(self, x_BChw: Tensor) -> Tensor:
        # The residuals keep the layout of this result, and norms want a token's channels side by side.
        return self.proj(x_BChw).flatten(2).transpose(1, 2).contiguous()


class FinalLayer(nn.Module):
    """adaLN and the projection of each token to its patch of noise and variance channels."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = Modulation(width, 2)

    def forward(self, x_BTD: Tensor, c_BD: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c_BD)
        return self.linear(modulate(x_BTD, shift, scale))
