"""The diffusion transformer, DiT (Peebles and Xie, ICCV 2023), with a choice of positional encodings.

Shapes: B batch, C latent channels, h x w latent, p patch side, T = (h/p)(w/p) tokens, H heads, E head width, D = H E width.
Parameter names are those of the published DiT and DiT+GTA checkpoints.
"""

import copy
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ditgta.model.layers import MLP, Attention, add_gated, modulate, modulation, reorder
from ditgta.model.positional import POSENCS, AbsoluteEncoding
from ditgta.runtime.streams import generator

# Named sizes: depth, width, heads. Ti is this project's own, for a laptop; the others are the paper's.
SIZES = {"Ti": (4, 96, 3), "S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}
PATCHES = (1, 2, 4, 8)
TIME_WIDTH = 256


def named_sizes(name: str) -> tuple[int, int, int, int]:
    """Returns patch, depth, width and heads of a named model such as DiT-B/2.

    Raises:
        ValueError: an unknown name.
    """
    size, _, patch = name.removeprefix("DiT-").partition("/")
    if not name.startswith("DiT-") or size not in SIZES or not patch.isdigit() or int(patch) not in PATCHES:
        raise ValueError(
            f"model {name!r} is unknown; write DiT-SIZE/PATCH with SIZE in {', '.join(SIZES)} and PATCH in {', '.join(map(str, PATCHES))}"
        )
    return int(patch), *SIZES[size]


def rows_of(values_NX: Tensor, rows_B: Tensor | None) -> Tensor:
    """Returns each image's row of values that images share, (B, X)."""
    return values_NX if rows_B is None else values_NX[rows_B]


class Block(nn.Module):
    """A transformer block conditioned by adaLN-zero: shift, scale and gate for attention and for the MLP."""

    def __init__(self, width: int, heads: int, qk_norm: bool, rotates_qk: bool, rotates_vo: bool):
        super().__init__()
        self.attn = Attention(width, heads, qk_norm, rotates_qk, rotates_vo)
        self.mlp = MLP(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(
        self, x_BTD: Tensor, c_ND: Tensor, table: Tensor | None, rows_B: Tensor | None = None
    ) -> Tensor:
        """Args: c_ND: conditions; rows_B: which of them is each image's (None: N = B, in their order)."""
        modulations = rows_of(modulation(self.adaLN_modulation, c_ND), rows_B)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulations.chunk(6, dim=1)
        x_BTD = add_gated(x_BTD, gate_a, self.attn(modulate(x_BTD, shift_a, scale_a), table))
        return add_gated(x_BTD, gate_m, self.mlp(modulate(x_BTD, shift_m, scale_m)))


class FinalLayer(nn.Module):
    """adaLN and the projection of each token to its patch of noise and variance channels."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x_BTD: Tensor, c_ND: Tensor, rows_B: Tensor | None = None) -> Tensor:
        shift, scale = rows_of(modulation(self.adaLN_modulation, c_ND), rows_B).chunk(2, dim=1)
        return self.linear(modulate(x_BTD, shift, scale))


class TimeEmbedder(nn.Module):
    """256 sinusoids of the timestep, then an MLP."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIME_WIDTH, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t_B: Tensor) -> Tensor:
        half = TIME_WIDTH // 2
        frequencies = torch.exp(
            -math.log(10000) * torch.arange(half, device=t_B.device, dtype=torch.float32) / half
        )
        angles = t_B.float()[:, None] * frequencies
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
        # What follows keeps this layout, and every norm wants its channels side by side.
        return self.proj(x_BChw).flatten(2).transpose(1, 2).contiguous()


class DiT(nn.Module):
    """A diffusion transformer that predicts noise and variance of a noisy latent.

    Args:
        latent_size: (h, w) of the latent; both must be multiples of `patch`.
        patch: side of a patch in latent pixels.
        depth, width, heads: number of blocks, token width D and attention heads H (H divides D; D/H a multiple of 4).
        num_classes: number of classes; label `num_classes` is the null label.
        posenc: positional encoding, one of ditgta.model.positional.POSENCS.
        qk_norm: RMSNorm of queries and keys.
        latent_channels: channels C of the latent.
        rotary_base: base of the frequencies of an encoding that rotates; None: its own.
        absolute_table: add the table of `abs` to the patch embeddings too; for encodings that rotate.

    Raises:
        ValueError: sizes that do not divide, an unknown encoding, or an option that does not belong to it.
    """

    def __init__(
        self,
        latent_size: tuple[int, int],
        patch: int,
        depth: int,
        width: int,
        heads: int,
        num_classes: int,
        posenc: str,
        qk_norm: bool = True,
        latent_channels: int = 4,
        rotary_base: float | None = None,
        absolute_table: bool = False,
    ):
        super().__init__()
        rows, columns = latent_size[0] // patch, latent_size[1] // patch
        if min(rows, columns) < 1 or latent_size[0] % patch or latent_size[1] % patch:
            raise ValueError(
                f"a latent of {latent_size[0]}x{latent_size[1]} cannot be cut into patches of {patch}x{patch}; "
                f"image sides must be multiples of patch x the autoencoder's downsampling"
            )
        if width % heads or (width // heads) % 4:
            raise ValueError(
                f"width {width} over {heads} heads: the head width must be a whole multiple of 4"
            )
        if posenc not in POSENCS:
            raise ValueError(f"posenc {posenc!r} is unknown; known: {', '.join(POSENCS)}")
        if (rotary_base is not None or absolute_table) and not POSENCS[posenc].rotated:
            raise ValueError(
                f"posenc {posenc} rotates nothing, so it takes neither rotary_base nor absolute_table; leave them out"
            )
        if rotary_base is not None and not rotary_base > 1:
            raise ValueError(f"rotary_base must be greater than 1, got {rotary_base}")
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        self.options = {
            "latent_size": [int(side) for side in latent_size],
            "patch": patch,
            "depth": depth,
            "width": width,
            "heads": heads,
            "num_classes": num_classes,
            "posenc": posenc,
            "qk_norm": qk_norm,
            "latent_channels": latent_channels,
            "rotary_base": rotary_base,
            "absolute_table": absolute_table,
        }
        self.patch, self.num_classes, self.latent_channels = patch, num_classes, latent_channels
        self.checkpoint_gradients = False
        self.grid = (rows, columns)
        self.encoding = POSENCS[posenc](rows, columns, width, heads, depth, rotary_base)
        rotated = self.encoding.rotated
        self.x_embedder = PatchEmbedder(latent_channels, patch, width)
        self.t_embedder = TimeEmbedder(width)
        self.y_embedder = LabelEmbedder(num_classes, width)
        self.blocks = nn.ModuleList(
            Block(width, heads, qk_norm, "qk" in rotated, "vo" in rotated) for _ in range(depth)
        )
        self.final_layer = FinalLayer(width, patch * patch * 2 * latent_channels)
        # Tables that follow learned parameters are made anew at each pass; all others are kept.
        fixed = not any(True for _ in self.encoding.parameters())
        added = AbsoluteEncoding(rows, columns, width, heads) if absolute_table else self.encoding
        positions = added.position_table() if fixed or absolute_table else None
        self.register_buffer("pos_embed", None if positions is None else positions[None])
        self.register_buffer("rotation", self.encoding.rotation_table() if fixed else None, persistent=False)
        self.eval()

    @classmethod
    def from_name(
        cls,
        name: str,
        image_size: int | tuple[int, int] = 256,
        posenc: str = "gta",
        num_classes: int = 1000,
        qk_norm: bool = True,
        *,
        downsampling: int = 8,
        latent_channels: int = 4,
        rotary_base: float | None = None,
        absolute_table: bool = False,
        depth: int | None = None,
        width: int | None = None,
        heads: int | None = None,
        seed: int = 0,
    ) -> "DiT":
        """Builds and initialises a model of a named size.

        Args:
            name: "DiT-{Ti,S,B,L,XL}/PATCH", e.g. "DiT-B/2".
            image_size: side, or (height, width), of the image in pixels.
            downsampling: image pixels per latent pixel and side, of the autoencoder.
            depth, width, heads: replace the named size's.
            seed: of the initial weights.
            The others as in the class.

        Raises:
            ValueError: an unknown name, or an image size that autoencoder and patch do not divide.
        """
        patch, *named = named_sizes(name)
        sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if any(side < 1 or side % (downsampling * patch) for side in sides):
            raise ValueError(
                f"image size {'x'.join(map(str, sides))} does not suit {name}: "
                f"sides must be multiples of {downsampling * patch} (autoencoder {downsampling} x patch {patch})"
            )
        model = cls(
            latent_size=(sides[0] // downsampling, sides[1] // downsampling),
            patch=patch,
            depth=depth or named[0],
            width=width or named[1],
            heads=heads or named[2],
            num_classes=num_classes,
            posenc=posenc,
            qk_norm=qk_norm,
            latent_channels=latent_channels,
            rotary_base=rotary_base,
            absolute_table=absolute_table,
        )
        model.initialise(seed)
        return model

    @classmethod
    def from_checkpoint(cls, path: str | Path, weights: str = "ema") -> "DiT":
        """Returns the model that a checkpoint holds, with its EMA weights (or weights="model": those that were trained).

        Raises:
            InputError: the file is missing, damaged or not a checkpoint of this project.
        """
        from ditgta.runtime.checkpoints import read_checkpoint

        header, tensors = read_checkpoint(path, [weights])
        model = cls(**header["model"])
        model.load_state_dict(tensors[weights])
        return model

    @classmethod
    def from_pretrained(cls, name: str | Path, revision: str | None = None) -> "DiT":
        """Returns the model of a folder that save-pretrained wrote, or of such a repository on the Hugging Face hub.

        Raises:
            InputError: it is not there, or damaged.
        """
        from ditgta.runtime.pretrained import read_pretrained

        config, weights = read_pretrained(name, revision)
        model = cls(**config["model"])
        model.load_state_dict(weights)
        return model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.x_embedder.proj.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.x_embedder.proj.weight.dtype

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Sets the initial weights, each tensor a pure function of the seed and its name.

        Xavier-uniform for every linear layer (q, k, v as one matrix, the patch convolution as a matrix), N(0, .02) for labels and
        the time MLP, zero for biases, adaLN and the last layer (DiT, Section 3.2). Encodings share names, so they start from equal
        weights; what an encoding learns itself starts as the encoding says.
        """
        for name, parameter in self.named_parameters():
            stream = generator(seed, "weights", name)
            if name.startswith("encoding."):
                parameter.copy_(self.encoding.initial(name.removeprefix("encoding."), stream))
            elif name.endswith("norm.scale"):
                parameter.fill_(1)
            elif name.endswith("bias") or "adaLN" in name or name.startswith("final_layer"):
                parameter.zero_()
            elif name.startswith(("t_embedder", "y_embedder")):
                parameter.copy_(_as_tensor(0.02 * stream.standard_normal(parameter.shape, dtype=np.float32)))
            else:
                fan_out, fan_in = parameter.shape[0], parameter[0].numel()
                bound = math.sqrt(6 / (fan_in + fan_out))
                parameter.copy_(
                    _as_tensor(bound * (2 * stream.random(parameter.shape, dtype=np.float32) - 1))
                )

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predicts noise and variance.

        Args:
            x: noisy latents (B, C, h, w).
            t: timesteps (B,), or (1,) for all of them, 0..999.
            y: labels (B,), 0..num_classes.

        Returns:
            (B, 2C, h, w): C channels of noise, then C of variance (interpolation coefficients in -1..1).
        """
        return self._predict(x, self.t_embedder(t) + self.y_embedder(y))

    def _predict(self, x: Tensor, c_ND: Tensor, rows_B: Tensor | None = None) -> Tensor:
        """Predicts from conditions; `rows_B` says which of them is each image's where images share some."""
        if tuple(x.shape[1:]) != (self.latent_channels, *self.options["latent_size"]):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (B, {self.latent_channels}, {self.options['latent_size']})"
            )
        x_BTD = self.x_embedder(x).float()  # the residuals are summed in float32 in every precision
        positions = self.encoding.position_table() if self.pos_embed is None else self.pos_embed
        if positions is not None:
            x_BTD = x_BTD + positions
        for block, table in zip(self.blocks, self.rotation_tables()):
            if self.checkpoint_gradients and torch.is_grad_enabled():
                x_BTD = checkpoint(block, x_BTD, c_ND, table, rows_B, use_reentrant=False)
            else:
                x_BTD = block(x_BTD, c_ND, table, rows_B)
        return self.unpatchify(self.final_layer(x_BTD, c_ND, rows_B))

    def rounded(self, dtype: torch.dtype, compiled: bool = False) -> "DiT":
        """Returns a copy, for inference, whose linear layers, but for the modulations', hold weights as autocast rounds them at each pass.

        Args:
            compiled: torch.compile makes its passes.
        """
        network = copy.deepcopy(self)
        for name, module in network.named_modules():
            if isinstance(module, nn.Linear) and "adaLN_modulation" not in name:
                module.to(dtype)
                if name.startswith("blocks.") and not compiled:  # where `linear` multiplies
                    reorder(module)
        if compiled:
            network._predict = torch.compile(network._predict)
        return network

    def rotation_tables(self) -> Sequence[Tensor | None]:
        """Returns each block's rotations, (T, H or 1, P, 2); a fixed table is one tensor for all of them."""
        rotation = self.encoding.rotation_table() if self.rotation is None else self.rotation
        if rotation is None:
            return [None] * len(self.blocks)
        return rotation.expand(len(self.blocks), -1, -1, -1, -1).unbind()

    def unpatchify(self, x_BTO: Tensor) -> Tensor:
        """Puts tokens of p p 2C values back on the grid: (B, T, p p 2C) -> (B, 2C, h, w)."""
        rows, columns = self.grid
        x = x_BTO.unflatten(2, (self.patch, self.patch, -1)).unflatten(1, (rows, columns))
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)

    def guided(
        self,
        x: Tensor,
        t: Tensor,
        y: Tensor,
        cfg_scale: float,
        cfg_channels: str = "3",
        precision: torch.dtype = torch.float32,
    ) -> Tensor:
        """Predicts with classifier-free guidance, u + s (c - u) (Ho and Salimans, 2022).

        Args:
            x, t, y: as in `forward`, y without null labels.
            cfg_scale: s; 1 is the conditional prediction (then the network runs once, not twice).
            cfg_channels: "3" guides noise channels 0-2 as the DiT reference does, "all" guides all C.
            precision: type in which the guidance is computed and returned.

        Returns:
            (B, 2C, h, w): guided noise; other channels and the variance stay conditional.
        """
        if cfg_scale == 1:
            return self(x, t, y).to(precision)
        # Without a label all images of one timestep have one condition.
        null = torch.full_like(t, self.num_classes, dtype=y.dtype)
        times = self.t_embedder(t)
        c_ND = torch.cat([times + self.y_embedder(y), times + self.y_embedder(null)])
        images = torch.arange(len(x), device=x.device)
        rows = torch.cat([images, len(x) + (images if len(t) > 1 else torch.zeros_like(images))])
        both = self._predict(torch.cat([x, x]), c_ND, rows)
        conditional, unconditional = both.to(precision).chunk(2)
        guided = 3 if cfg_channels == "3" else self.latent_channels
        noise = unconditional[:, :guided] + cfg_scale * (conditional[:, :guided] - unconditional[:, :guided])
        return torch.cat([noise, conditional[:, guided:]], dim=1)


def _as_tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.float32))
