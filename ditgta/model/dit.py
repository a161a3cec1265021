"""The diffusion transformer, DiT (Peebles and Xie, ICCV 2023), with a choice of positional encodings.

Shapes: B batch, C latent channels, h x w latent, p patch side, T = (h/p)(w/p) tokens, H heads, E head width, D = H E width.
Parameter names are those of the published DiT and DiT+GTA checkpoints. Under autocast the matmuls are rounded; norms, rotations,
modulations and the sum along the residuals are float32 in every precision.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ditgta.config.names import OBJECTIVES, named_sizes
from ditgta.model import layers
from ditgta.model.init import initialise
from ditgta.model.positional import AbsoluteEncoding, Tables, encoding_class
from ditgta.runtime.modules import identified


@dataclass(frozen=True)
class DiTConfig:
    """All that decides a network's shape; what the header of a checkpoint holds under "model".

    Args:
        latent_size: (h, w) of the latent; both must be multiples of `patch`.
        patch: side of a patch in latent pixels.
        depth, width, heads: number of blocks, token width D and attention heads H (H divides D; D/H a multiple of 4).
        num_classes: number of classes; label `num_classes` is the null label.
        posenc: positional encoding, one of ditgta.model.positional.POSENCS, or MODULE:CLASS, to which the file's checksum is added.
        qk_norm: RMSNorm of queries and keys.
        latent_channels: channels C of the latent.
        rotary_base: base of the frequencies of an encoding that rotates; None: its own.
        absolute_table: add the table of `abs` to the patch embeddings too; for encodings that rotate.
        objective: what is predicted: "ddpm": noise and variance, 2C channels; "flow": velocity, C channels.

    Raises:
        ValueError: sizes that do not divide, an unknown encoding, or an option that does not belong to it.
    """

    latent_size: tuple[int, int]
    patch: int
    depth: int
    width: int
    heads: int
    num_classes: int
    posenc: str
    qk_norm: bool = True
    latent_channels: int = 4
    rotary_base: float | None = None
    absolute_table: bool = False
    objective: str = "ddpm"

    def __post_init__(self):
        height, width = self.latent_size
        object.__setattr__(self, "latent_size", (int(height), int(width)))
        if min(self.grid) < 1 or height % self.patch or width % self.patch:
            raise ValueError(
                f"a latent of {height}x{width} cannot be cut into patches of {self.patch}x{self.patch}; "
                "image sides must be multiples of patch x the autoencoder's downsampling"
            )
        if self.width % self.heads or (self.width // self.heads) % 4:
            raise ValueError(
                f"width {self.width} over {self.heads} heads: the head width must be a whole multiple of 4"
            )
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective {self.objective!r} is unknown; known: {', '.join(OBJECTIVES)}")
        kind = encoding_class(self.posenc)
        if (self.rotary_base is not None or self.absolute_table) and not kind.rotated:
            raise ValueError(
                f"posenc {self.posenc} does not rotate, so it takes neither rotary_base nor absolute_table; leave them out"
            )
        if self.rotary_base is not None and kind.base is None:
            raise ValueError(f"posenc {self.posenc} has no base, so it takes no rotary_base; leave it out")
        if self.rotary_base is not None and not self.rotary_base > 1:
            raise ValueError(f"rotary_base must be greater than 1, got {self.rotary_base}")
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {self.num_classes}")
        object.__setattr__(self, "posenc", identified(self.posenc))

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
        **options,
    ) -> "DiTConfig":
        """Return the configuration of a named model, "DiT-{Pi,Ti,S,B,L,XL}/PATCH".

        Args:
            image_size: side, or (height, width), of the image in pixels.
            downsampling: image pixels per latent pixel and side, of the autoencoder.
            options: further fields; depth, width and heads replace the named size's unless they are None.

        Raises:
            ValueError: an unknown name, or an image size that autoencoder and patch do not divide.
        """
        sizes = named_sizes(name) | {key: value for key, value in options.items() if value is not None}
        sides = (image_size, image_size) if isinstance(image_size, int) else image_size
        unit = downsampling * sizes["patch"]
        if any(side < 1 or side % unit for side in sides):
            raise ValueError(
                f"image size {'x'.join(map(str, sides))} does not suit {name}: "
                f"sides must be multiples of {unit} (autoencoder {downsampling} x patch {sizes['patch']})"
            )
        latent_size = (sides[0] // downsampling, sides[1] // downsampling)
        return cls(latent_size, posenc=posenc, num_classes=num_classes, qk_norm=qk_norm, **sizes)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.latent_size[0] // self.patch, self.latent_size[1] // self.patch


class Block(nn.Module):
    """A transformer block conditioned by adaLN-zero: shift, scale and gate for attention and for the MLP."""

    def __init__(self, width: int, heads: int, qk_norm: bool, rotated: tuple[str, ...]):
        super().__init__()
        self.attn = layers.Attention(width, heads, qk_norm, rotated)
        self.mlp = layers.MLP(width)
        self.adaLN_modulation = layers.Modulation(width, 6)

    def forward(self, x_BTD: Tensor, c_BD: Tensor, tables: Tables) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.adaLN_modulation(c_BD)
        x_BTD = x_BTD + gate_a * self.attn(layers.modulate(x_BTD, shift_a, scale_a), tables)
        return x_BTD + gate_m * self.mlp(layers.modulate(x_BTD, shift_m, scale_m))


class DiT(nn.Module):
    """A diffusion transformer that predicts noise and variance of a noisy latent, or the velocity with which it changes."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config, self.checkpoint_gradients = config, False
        sizes = (*config.grid, config.width, config.heads)
        self.encoding = encoding_class(config.posenc)(*sizes, config.depth, config.rotary_base)
        self.x_embedder = layers.PatchEmbedder(config.latent_channels, config.patch, config.width)
        self.t_embedder = layers.TimeEmbedder(config.width)
        self.y_embedder = layers.LabelEmbedder(config.num_classes, config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.qk_norm, self.encoding.rotated)
            for _ in range(config.depth)
        )
        outputs = 2 * config.latent_channels if config.objective == "ddpm" else config.latent_channels
        self.final_layer = layers.FinalLayer(config.width, config.patch**2 * outputs)
        # Tables that follow learned parameters are computed at each pass; all others are kept.
        self.encoding.keep_tables()
        added = AbsoluteEncoding(*sizes) if config.absolute_table else self.encoding
        with torch.enable_grad():
            positions = added.position_table()
        fixed = positions is not None and not positions.requires_grad
        self.register_buffer("pos_embed", positions[None] if fixed else None)
        self.eval()

    @classmethod
    def from_name(cls, name: str, *options, seed: int = 0, label_std: float | None = None, **more) -> "DiT":
        """Build a named model with the initial weights of a seed (`initialise`); the options are those of `DiTConfig.from_name`."""
        model = cls(DiTConfig.from_name(name, *options, **more))
        initialise(model, seed, label_std)
        return model

    @property
    def num_classes(self) -> int:
        """Number of classes, which is also the null label."""
        return self.config.num_classes

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.x_embedder.proj.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.x_embedder.proj.weight.dtype

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predict noise and, after it, variance (coefficients in -1..1): (B, 2C, h, w); of "flow", velocity: (B, C, h, w).

        Args:
            x: noisy latents (B, C, h, w).
            t: times (B,), 0..999 or, between them too, 0..1000.
            y: labels (B,), 0..num_classes.
        """
        expected = (self.config.latent_channels, *self.config.latent_size)
        if tuple(x.shape[1:]) != expected:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, {', '.join(map(str, expected))})")
        c_BD = self.t_embedder(t) + self.y_embedder(y)
        x_BTD = self.x_embedder(x).float()  # the residuals are summed in float32
        positions = self.encoding.position_table() if self.pos_embed is None else self.pos_embed
        if positions is not None:
            x_BTD = x_BTD + positions
        for number, (block, tables) in enumerate(zip(self.blocks, self.encoding.tables())):
            if self.checkpoint_gradients:
                x_BTD = checkpoint(block, x_BTD, c_BD, tables, use_reentrant=False)
            else:
                x_BTD = block(x_BTD, c_BD, tables)
            if number == 0:
                x_BTD = self.encoding.after_first_block(x_BTD)
        return self.unpatchify(self.final_layer(x_BTD, c_BD))

    def unpatchify(self, x_BTO: Tensor) -> Tensor:
        """Put tokens back on the grid: (B, T, p p 2C) -> (B, 2C, h, w), C for 2C where the objective is "flow"."""
        patch = self.config.patch
        x = x_BTO.unflatten(2, (patch, patch, -1)).unflatten(1, self.config.grid)
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
