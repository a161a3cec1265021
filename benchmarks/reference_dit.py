"""A plain DiT as it is commonly written, to compare with: adaLN-zero, nn.LayerNorm, fused attention, and no rotation.

It computes what `ditgta.DiT` does with `posenc="abs"` and `qk_norm=False`, and its weights have the same names. What it leaves to
autocast is left as is usual: modulations, gates and residuals are of whatever type comes out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ditgta import DiTConfig
from ditgta.model import layers
from ditgta.model.positional import AbsoluteEncoding


class Patches(nn.Module):
    """A strided convolution, whose maps are taken for tokens where they lie in memory."""

    def __init__(self, channels: int, patch: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)

    def forward(self, x_BChw: Tensor) -> Tensor:
        return self.proj(x_BChw).flatten(2).mT


class Attention(nn.Module):
    """Multi-head self-attention with one product for queries, keys and values."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        batch, tokens, width = x_BTD.shape
        split = self.qkv(x_BTD).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        merged = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        return self.proj(merged)


class Block(nn.Module):
    """A transformer block with shift, scale and gate of both halves from the condition."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.mlp = layers.MLP(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x_BTD: Tensor, c_BD: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.adaLN_modulation(c_BD)[:, None].chunk(6, -1)
        x_BTD = x_BTD + gate_a * self.attn(self.norm1(x_BTD) * (1 + scale_a) + shift_a)
        return x_BTD + gate_m * self.mlp(self.norm2(x_BTD) * (1 + scale_m) + shift_m)


class FinalLayer(nn.Module):
    """Modulated norm, and the projection of each token to its patch."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.norm_final = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x_BTD: Tensor, c_BD: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c_BD)[:, None].chunk(2, -1)
        return self.linear(self.norm_final(x_BTD) * (1 + scale) + shift)


class ReferenceDiT(nn.Module):
    """The transformer of a configuration, whose encoding and norms of queries and keys it ignores."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config, width = config, config.width
        self.x_embedder = Patches(config.latent_channels, config.patch, width)
        self.t_embedder = layers.TimeEmbedder(width)
        self.y_embedder = layers.LabelEmbedder(config.num_classes, width)
        table = AbsoluteEncoding(*config.grid, width, config.heads).position_table()
        self.register_buffer("pos_embed", table[None])
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.depth))
        self.final_layer = FinalLayer(width, config.patch**2 * 2 * config.latent_channels)

    def forward(self, x_BChw: Tensor, t_B: Tensor, y_B: Tensor) -> Tensor:
        """Predict noise and variance: (B, C, h, w), timesteps and labels (B,) -> (B, 2C, h, w)."""
        x_BTD = self.x_embedder(x_BChw) + self.pos_embed
        c_BD = self.t_embedder(t_B) + self.y_embedder(y_B)
        for block in self.blocks:
            x_BTD = block(x_BTD, c_BD)
        return self.unpatchify(self.final_layer(x_BTD, c_BD))

    def unpatchify(self, x_BTO: Tensor) -> Tensor:
        """Put tokens back on the grid: (B, T, p p 2C) -> (B, 2C, h, w)."""
        (rows, columns), patch = self.config.grid, self.config.patch
        patches = x_BTO.reshape(len(x_BTO), rows, columns, patch, patch, -1)
        return torch.einsum("brcijo->boricj", patches).flatten(4, 5).flatten(2, 3)
