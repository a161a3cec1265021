"""DINOv2's vision transformer, a judge of images that no labels have taught (Oquab et al., "DINOv2", TMLR 2024).

Its class token gives FD-DINOv2 (Stein et al., "Exposing flaws of generative model evaluation metrics", NeurIPS 2023), which agrees with people
better than FID does. Weights: those of the authors (dinov2_vit{s,b,l}14*_pretrain.pth), or the same in transformers' names.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INPUT_SIZE, PATCH, HEAD_WIDTH = 224, 14, 64
SIZES = {384: "ViT-S/14", 768: "ViT-B/14", 1024: "ViT-L/14"}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels
# Positions without registers were always interpolated by (side + OFFSET) / trained side, so their features depend on it.
OFFSET = 0.1


class Judged(NamedTuple):
    """Features of a batch."""

    class_token: Tensor


class Block(nn.Module):
    """x + g1 attention(norm(x)), then x + g2 MLP(norm(x)); g1 and g2 scale channels (LayerScale)."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.ls1, self.ls2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens after the block, (B, T, D)."""
        batch, tokens, width = x.shape
        heads = (batch, tokens, 3, width // HEAD_WIDTH, HEAD_WIDTH)
        q, k, v = self.qkv(self.norm1(x)).view(heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = x + self.ls1 * self.proj(attended)
        return x + self.ls2 * self.fc2(F.gelu(self.fc1(self.norm2(x))))


class DINOv2(nn.Module):
    """The network without its training heads; heads of attention are 64 wide.

    `side` is the number of patches per side of the table of positions, 37 of the published ones (518 pixels), `registers` that of tokens
    beside class and patches, 4 or none.
    """

    def __init__(self, width: int, depth: int, side: int = 37, registers: int = 0):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side**2, width))
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, width)) if registers else None
        self.patch_embed = nn.Conv2d(3, width, PATCH, PATCH)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    @property
    def name(self) -> str:
        """The name of the network of this size."""
        width = self.cls_token.shape[-1]
        name = f"DINOv2 {SIZES.get(width, f'of width {width}')}"
        return name if self.register_tokens is None else f"{name} with registers"

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Judged:
        """Return the class token of images, uint8 (B, height, width, 3), of any size: (B, D)."""
        pixels = images.to(self.cls_token.device).permute(0, 3, 1, 2).float()
        size = (INPUT_SIZE, INPUT_SIZE)
        pixels = F.interpolate(pixels, size=size, mode="bicubic", antialias=True) / 255
        mean, std = (torch.tensor(values, device=pixels.device).view(1, 3, 1, 1) for values in (MEAN, STD))
        return Judged(self.tokens((pixels - mean) / std)[:, 0])

    def tokens(self, pixels: Tensor) -> Tensor:
        """Return all tokens after the last norm, (B, 1 + registers + patches, D), of normalised pixels (B, 3, h, w)."""
        patches = self.patch_embed(pixels)
        classes = self.cls_token.expand(len(pixels), -1, -1)
        x = torch.cat([classes, patches.flatten(2).transpose(1, 2)], 1) + self._positions(*patches.shape[2:])
        if self.register_tokens is not None:
            registers = self.register_tokens.expand(len(pixels), -1, -1)
            x = torch.cat([x[:, :1], registers, x[:, 1:]], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Return the table of positions for a grid of patches, (1, 1 + rows columns, D), bicubic where it has another size."""
        first, others = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        side = int(others.shape[1] ** 0.5)
        if (rows, columns) == (side, side):
            return self.pos_embed
        grid = others.reshape(1, side, side, -1).permute(0, 3, 1, 2)
        if self.register_tokens is None:
            scale = ((rows + OFFSET) / side, (columns + OFFSET) / side)
            grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
        else:
            grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=True)
        return torch.cat([first, grid.flatten(2).transpose(1, 2)], 1)


def load_dinov2(tensors: dict[str, Tensor]) -> DINOv2:
    """Return the network of a table of tensors, in the authors' names or transformers', ready for inference.

    Raises ValueError if they are not those of such a network; the message says what is wrong.
    """
    own = _own_names(tensors)
    for name in ("cls_token", "pos_embed", "patch_embed.weight", "blocks.0.qkv.weight"):
        if name not in own:
            raise ValueError(f"{name} of DINOv2 is missing")
    width, depth, registers = sizes_of({name: tensor.shape for name, tensor in tensors.items()})
    places = own["pos_embed"].shape[1]
    side = (places - 1) ** 0.5
    if own["patch_embed.weight"].shape[1:] != (3, PATCH, PATCH):
        raise ValueError(f"its patches are not {PATCH} x {PATCH} pixels")
    if width % HEAD_WIDTH or side != int(side):
        raise ValueError(f"width {width} and {places} positions do not belong to a DINOv2 model")
    with torch.device("meta"):
        network = DINOv2(width, depth, int(side), registers)
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    for name in [*expected, *own]:
        if name not in own or name not in expected:
            raise ValueError(f"{name} is {'missing' if name in expected else 'one tensor too many'}")
        if own[name].shape != expected[name]:
            raise ValueError(f"{name} is {list(own[name].shape)}, not {list(expected[name])}")
    network.load_state_dict({name: tensor.float() for name, tensor in own.items()}, assign=True)
    return network.eval().requires_grad_(False)


def sizes_of(shapes: Mapping[str, Sequence[int]]) -> tuple[int, int, int]:
    """Return width, depth and registers of a network by the shapes of its tensors, in the authors' names or transformers'.

    Raises ValueError if they are not those of such a network.
    """
    own = {_own_name(name): shape for name, shape in shapes.items()}
    blocks = re.findall(r"^blocks\.(\d+)\.", "\n".join(own), re.MULTILINE)
    if "cls_token" not in own or not blocks:
        raise ValueError("cls_token or blocks of DINOv2 are missing")
    return own["cls_token"][-1], 1 + max(map(int, blocks)), own.get("register_tokens", (1, 0))[1]


_UNUSED = ("mask_token", "embeddings.mask_token")  # of training
_RENAMED = (  # in the authors' names, and in transformers'
    (r"patch_embed\.proj\.", "patch_embed."),
    (r"^(blocks\.\d+\.)(?:attn|mlp)\.", r"\1"),
    (r"\.ls([12])\.gamma$", r".ls\1"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed."),
    (r"^embeddings\.", ""),
    (r"^layernorm\.", "norm."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".proj."),
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1"),
    (r"\.mlp\.(fc[12])\.", r".\1."),
)


def _own_name(name: str) -> str:
    for pattern, new in _RENAMED:
        name = re.sub(pattern, new, name)
    return name


def _own_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by the names that they have here, with queries, keys and values in one."""
    if any(name.endswith(("mlp.w12.weight", "mlp.weights_in.weight")) for name in tensors):
        raise ValueError("it is a ViT-g, which has another feed-forward layer; give ViT-S, B or L")
    own_tensors = {_own_name(name): tensor for name, tensor in tensors.items() if name not in _UNUSED}
    for name in list(own_tensors):
        if ".attention.attention.query." in name:
            three = [own_tensors.pop(name.replace("query", kind), None) for kind in ("query", "key", "value")]
            if any(one is None for one in three):
                raise ValueError(f"{name} lacks its keys or values")
            own_tensors[name.replace("attention.attention.query", "qkv")] = torch.cat(three)
    return own_tensors
