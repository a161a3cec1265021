"""What a training process holds in memory, as formulas, in bytes: B images a pass, T tokens, D width, L blocks, H heads, P parameters.

What each block keeps for its backward pass depends on how its layers compute, and a test holds it to a count of what autograd keeps.
"""

import itertools
from dataclasses import dataclass

import torch

from ditgta.kernels.cpu import MOST_TOKENS, multiplies
from ditgta.model.positional import PositionalEncoding
from ditgta.planning.cost import Shape, parameters

FORMULA = "B T D (40 to 128) a block, 4 B T D where recomputed"

# Bytes that a block keeps per token and channel, by layers and precision: no values rotated; values rotated; rotations of
# queries and keys learned; rotations of all learned; those of queries and keys learned as matrices; maps before fixed rotations of
# queries and keys. Counted.
KEPT = {
    ("cpu", "float32"): (92, 96, 112, 128, 104, 108),
    ("cpu", "bf16"): (54, 54, 88, 104, 80, 76),
    ("cpu", "bf16 emulated"): (56, 56, 92, 106, 84, 82),  # by a processor without instructions for it
    ("compiled", "float32"): (76, 84, 84, 100, 84, 88),
    ("compiled", "bf16"): (40, 44, 44, 52, 48, 46),
    ("plain", "float32"): (96, 104, 112, 128, 104, 108),
    ("plain", "bf16"): (76, 74, 92, 106, 84, 82),
}
# The same where logits have a learned bias, beside all weights in float32: on CPUs no fused attention gives its gradient. Counted
# there; GPUs have one that does.
BIASED = {
    ("cpu", "float32"): 0,
    ("cpu", "bf16 emulated"): 4,
    ("compiled", "float32"): 4,
    ("compiled", "bf16"): 8,
    ("plain", "float32"): 4,
    ("plain", "bf16"): 2,
}
# Bytes per token and head of the norms of queries and keys.
NORMS = {"cpu": 12, "compiled": 8, "plain": 16}
# Bytes per channel of the modulation.
MODULATIONS = {"cpu": 36, "compiled": 28, "plain": 36}
# Bytes of learned maps per channel and channel of a head.
MAPS = {"float32": 72, "bf16": 68, "bf16 emulated": 68}


@dataclass(frozen=True)
class Pass:
    """How a process goes forward and backward.

    images: of one pass, B: the process's share of the batch, or the micro-batch.
    layers: "cpu" (the kernels for CPUs), "compiled" or "plain".
    rotates, rotates_values: the encoding rotates anything; it rotates values, and the output of attention back.
    learned: the rotations are learned.
    matrices: channels that one matrix rotates; 0: rotations of pairs.
    by_head: each head has rotations of its own.
    biased, bias_learned: logits have a bias; it is learned.
    maps: queries and keys have learned maps.
    keeps_gradients: gradients outlive a pass: several processes average them, or several passes add them up.
    """

    images: int
    layers: str
    bf16: bool = False
    checkpoint_gradients: bool = False
    rotates: bool = True
    rotates_values: bool = True
    learned: bool = False
    matrices: int = 0
    by_head: bool = False
    biased: bool = False
    bias_learned: bool = False
    maps: bool = False
    keeps_gradients: bool = False

    @property
    def precision(self) -> str:
        """How products are computed, as in `KEPT`."""
        if not self.bf16:
            return "float32"
        return "bf16" if self.layers != "cpu" or multiplies(torch.bfloat16) else "bf16 emulated"

    @property
    def attends_by_kernel(self) -> bool:
        """Whether attention is the kernel for CPUs, which leaves learned rotations and maps to the plain layer."""
        return self.layers == "cpu" and not (self.learned or self.maps)


def traits(encoding: PositionalEncoding) -> dict[str, int]:
    """Return what of an encoding decides the memory of a pass, as arguments of `Pass`; its tables may be without data."""
    (tables,) = itertools.islice(encoding.tables(), 1)
    rotation, bias, maps = tables
    known = {
        "rotates": rotation is not None,
        "rotates_values": "vo" in encoding.rotated,
        "biased": bias is not None,
        "maps": maps is not None,
    }
    if rotation is not None:
        known |= {"learned": rotation.requires_grad, "by_head": rotation.shape[1] > 1}
        if rotation.dim() == 5:
            known["matrices"] = rotation.shape[-1]
    if bias is not None:
        known["bias_learned"] = bias.requires_grad
    return known


def block_bytes(shape: Shape, step: Pass) -> float:
    """Return what one block keeps for its backward pass: per image, and, once, tables and weights as they are rounded."""
    t, d, h = shape.tokens, shape.width, shape.heads
    per_image = KEPT[step.layers, step.precision][_column(step)] * t * d
    per_image += 16 * t + MODULATIONS[step.layers] * d
    if shape.qk_norm:
        layers = "plain" if step.layers == "cpu" and not step.attends_by_kernel else step.layers
        per_image += t * h * NORMS[layers]
    # Fused attention keeps a sum for each head and token, the kernel for bf16 all weights.
    all_weights = step.layers == "cpu" and step.precision == "bf16" and t <= MOST_TOKENS
    if all_weights:
        per_image += 2 * t * t * h
    elif step.bias_learned:
        per_image += 4 * t * t * h + BIASED[step.layers, step.precision] * t * d
    else:
        per_image += 4 * t * h
    tables = (8 * step.matrices or 10) * t * d if step.learned else 0
    if step.attends_by_kernel:
        tables = 4 * t * d // (1 if step.by_head else h) * (step.rotates + step.rotates_values)
    if step.maps:
        tables += MAPS[step.precision] * d**2 // h + 16 * d
    if step.biased and not step.bias_learned and step.bf16 and not all_weights:
        tables += 2 * t * t * h  # the bias as it is rounded
    weights = 2 * 12 * d**2 if step.bf16 else 0  # of all products but the modulation's
    return step.images * per_image + tables + weights


def _column(step: Pass) -> int:
    """Return the column of `KEPT` that a pass's encoding stands in."""
    if step.maps:
        return 5
    return 4 if step.matrices else 2 * step.learned + step.rotates_values


def pass_bytes(shape: Shape, step: Pass) -> float:
    """Return the most that a forward and backward pass holds at once, gradients included.

    At the end of the forward pass that is what all blocks keep (4 B T D each where their activations are recomputed) and the work
    on the last one, about 25 B T D; at the end of the backward pass it is the gradients and what the first block keeps. In
    between, each block that is done gives back the one and leaves the other. Last come the gradients of learned rotations, of all
    blocks at once: some 17 numbers for each number of a table, or, for matrices, 14 matrices of twice their sides.
    """
    tokens, gradients = step.images * shape.tokens * shape.width, 4.0 * parameters(shape)
    block = block_bytes(shape, step)
    kept = 4.0 * tokens if step.checkpoint_gradients else block
    held = block + 25 * tokens
    if step.keeps_gradients:
        held += (shape.depth - 1) * kept + gradients
    else:
        held += (shape.depth - 1) * max(kept, gradients / shape.depth)
    numbers = shape.depth * shape.tokens * shape.width * step.learned
    last = gradients + max(4 * numbers * (14 * 4 * step.matrices or 17), 4 * tokens)
    return max(held, last)
