"""What a diffusion transformer costs: floating-point operations, parameters and bytes, as formulas.

One multiplication with addition counts as two operations. Only matmuls are counted: all else is memory traffic, which the
efficiency of a device covers.
"""

import math
from dataclasses import dataclass

from ditgta.config import Experiment, Images, Loss, Sampling
from ditgta.runtime.files import expanded

# Width and depth of DINOv2's networks.
JUDGES = {"vits14": (384, 12), "vitb14": (768, 12), "vitl14": (1024, 24)}
JUDGE_PATCH, JUDGE_PATCHES = 14, 256  # side of a patch in pixels, and patches of an image, in a second judge


@dataclass(frozen=True)
class Shape:
    """The sizes that decide a model's cost: T tokens, D width, L blocks, p patch side, C latent channels, K classes, H heads.

    encoding: parameters of the positional encoding.
    encoding_flops: its operations per image in a forward pass.
    outputs: channels that are predicted per latent channel: noise and variance, or velocity alone.
    """

    tokens: int
    width: int
    depth: int
    patch: int
    channels: int
    classes: int
    heads: int
    qk_norm: bool = True
    encoding: int = 0
    encoding_flops: float = 0.0
    outputs: int = 2


def shape_of(experiment: Experiment, classes: int = 1) -> Shape:
    """Return the sizes of an experiment's network, but those of its encoding."""
    model, autoencoder = experiment.model, experiment.autoencoder
    sizes = model.sizes
    return Shape(
        tokens=(experiment.images.size // autoencoder.downsampling // sizes["patch"]) ** 2,
        **sizes,
        channels=autoencoder.channels,
        classes=classes,
        qk_norm=model.qk_norm,
        outputs=experiment.training.outputs,
    )


FORWARD_FORMULA = (
    "L (24 T D^2 + 4 T^2 D + 12 D^2) + 2 T D (C p^2 + o C p^2) + 2 D (256 + D) + 4 D^2 + the encoding's"
)


def forward_flops(shape: Shape) -> float:
    """Return the operations of one forward pass of one image: FORWARD_FORMULA.

    Per block: q, k, v (6 T D^2), the two products of attention (4 T^2 D), its projection (2 T D^2), the MLP (16 T D^2) and adaLN
    (12 D^2); around them patch embedding, last layer with its adaLN, the time MLP, and what the encoding multiplies.
    """
    t, d, pixels = shape.tokens, shape.width, shape.channels * shape.patch**2
    block = 24 * t * d**2 + 4 * t**2 * d + 12 * d**2
    around = 2 * t * d * (pixels + shape.outputs * pixels) + 2 * d * (256 + d) + 4 * d**2
    return shape.depth * block + around + shape.encoding_flops


def training_flops(shape: Shape, checkpoint_gradients: bool = False) -> float:
    """Return the operations of one training step per image: three forward passes, four when activations are recomputed."""
    return forward_flops(shape) * (4 if checkpoint_gradients else 3)


def passes_of(options: Sampling) -> float:
    """Return how often the network sees an image while it is sampled: with and without its label where it is guided."""
    passes = 2 * options.steps if options.sampler == "heun" else options.steps
    if options.cfg_scale == 1:
        return passes
    low, high = options.cfg_interval or (0, 1)
    return passes * (1 + high - low)


def judge_flops(width: int, depth: int, registers: int = 0) -> float:
    """Return the operations of one image in a second judge, DINOv2's transformer with T tokens: L (24 T D^2 + 4 T^2 D) + 2 P p^2 3 D.

    The tokens are one of the class, P = 256 patches of p = 14 pixels, and the registers.
    """
    tokens = 1 + JUDGE_PATCHES + registers
    blocks = depth * (24 * tokens * width**2 + 4 * tokens**2 * width)
    return blocks + 2 * JUDGE_PATCHES * 3 * JUDGE_PATCH**2 * width


def judge_sizes(weights: str) -> tuple[int, int, int]:
    """Return width, depth and registers of a second judge, from the name of its file or else its size; ViT-L where there is none."""
    path = expanded(weights)
    registers = 4 if "reg4" in path.name else 0
    for name, sizes in JUDGES.items():
        if name in path.name:
            return *sizes, registers
    if not path.is_file():
        return *JUDGES["vitl14"], registers
    # 12 L D^2 numbers of 4 or 2 bytes; no two of these six sizes lie within a factor of 1.7.
    size = max(path.stat().st_size, 1)
    known = {abs(math.log(size / (b * 12 * d * w**2))): (w, d) for w, d in JUDGES.values() for b in (2, 4)}
    return *known[min(known)], registers


def held_out_images(options: Loss, images: Images, count: int) -> int:
    """Return how many held-out images enter a loss, where `count` images are trained on."""
    return min(options.max_images, held_out_count(images, count) or options.max_images)


def held_out_count(images: Images, count: int) -> int:
    """Return how many images are held out, where `count` are trained on; 0 where none are, or unknown others."""
    share, (trained, held_out) = images.hold_out, images.copies
    return round(share / (1 - share) * count * (held_out / trained))


def parameters(shape: Shape) -> int:
    """Return the number of trained parameters."""
    d, pixels = shape.width, shape.channels * shape.patch**2
    norms = 2 * (d // shape.heads) if shape.qk_norm else 0
    block = 4 * d**2 + 4 * d + 8 * d**2 + 5 * d + 6 * d**2 + 6 * d + norms
    embedders = (pixels + 1) * d + (256 + 1) * d + d**2 + d + (shape.classes + 1) * d
    final = shape.outputs * pixels * (d + 1) + 2 * d**2 + 2 * d
    return shape.depth * block + embedders + final + shape.encoding


def checkpoint_bytes(shape: Shape, averages: int = 1) -> int:
    """Return the bytes of a checkpoint: weights, their averages and AdamW's two moments, float32."""
    return 4 * (3 + averages) * parameters(shape)


def allreduce_bytes(shape: Shape, processes: int) -> float:
    """Return the bytes that each process sends per step to average float32 gradients: 2 (n-1)/n of them in a ring."""
    return 4 * parameters(shape) * 2 * (processes - 1) / processes


def latent_bytes(channels: int, height: int, width: int) -> int:
    """Return the bytes of one image's record in a latent shard: mean and log variance of it and its mirror, float16."""
    return 16 + 2 * side_bytes(channels, height, width)


def side_bytes(channels: int, height: int, width: int) -> int:
    """Return the bytes that training reads per image and step: mean and log variance of one side of its record, float16."""
    return 2 * 2 * channels * height * width
